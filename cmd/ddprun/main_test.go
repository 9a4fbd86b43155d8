package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/launch"
	"github.com/ddprun/ddprun/launch/pipe"
)

// binary is ddprun as "make build" builds it.
var binary string

// TestMain builds ddprun once. Started with the arguments or the environment of a worker, the test binary is one.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && slices.Contains([]string{"check", "tokenize"}, os.Args[1]):
		os.Exit(fakeCommand())
	case os.Getenv(pipe.EnvFD) != "":
		os.Exit(fakeRank())
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ddprun-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // TestUnreadableFile starts it as another user
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	binary = filepath.Join(dir, "ddprun")
	build := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build ddprun: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// fakeCommand stands for ddprun-worker's commands. The environment variable FAKE_CHECK says how the check ends.
func fakeCommand() int {
	if os.Args[1] == "tokenize" {
		fmt.Printf("%q\n", os.Args[1:])
		return 3
	}
	text, err := io.ReadAll(os.Stdin)
	if err == nil {
		_, err = config.Decode(text)
	}
	switch outcome := os.Getenv("FAKE_CHECK"); {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 70
	case !strings.HasPrefix(strings.Join(os.Args[2:], " "), "--nproc 2 --max-nproc 2 --local-nproc 2 --run-id  --dry-run="):
		fmt.Fprintf(os.Stderr, "arguments %q\n", os.Args[2:])
		return 70
	case outcome == "long": // until it is asked to stop
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM)
		fmt.Fprintln(os.Stderr, "preparing")
		<-signals
		fmt.Fprintln(os.Stderr, "stopped on request")
		return 75
	case outcome == "wrong":
		fmt.Fprintln(os.Stderr, "ddprun: corpus.txt: is empty")
		return 78
	case outcome == "library":
		fmt.Fprintln(os.Stderr, "libtorch_cpu.so: cannot open shared object file")
		return 127
	case outcome == "crash":
		fmt.Fprintln(os.Stderr, "boom")
		return 5
	case outcome == "another version":
		return 0 // as before it said digests
	}
	fmt.Println(`{"model": "m", "tokenizer": "t", "shards": "s", "program": "p"}`)
	return 0
}

// fakeRank stands for one rank: it prints the seed and its place, and fails as FAKE_RANK says.
func fakeRank() int {
	w, err := pipe.FromEnvironment("test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 70
	}
	defer w.Close()
	start, err := w.Start(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 70
	}
	c, err := config.Decode(start.Config)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 70
	}
	fmt.Printf("seed %d rank %d of %d\n", c.Seed, start.Rank, start.WorldSize)
	if os.Getenv("FAKE_RANK") == fmt.Sprint(start.Rank) {
		return 1
	}
	if err := w.Done(pipe.Done{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 70
	}
	return 0
}

// result is how one call of ddprun ended.
type result struct {
	code           int
	stdout, stderr string
}

// ddprun runs the program in the working directory, with variables added to the environment.
func ddprun(t *testing.T, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// workplace makes a directory with a model, a text and train.yaml the working directory.
func workplace(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	put(t, "text.txt", "Some text.\n")
	put(t, "train.yaml", "model: model\ndata: text.txt\noutput_dir: out\n")
	put(t, "model/config.json", `{"model_type": "bert", "architectures": ["BertForMaskedLM"]}`)
	err := hf.WriteSafetensors("model/model.safetensors", []hf.Tensor{
		{Name: "x", DType: hf.F32, Shape: []int64{1}, Data: []byte{0, 0, 0, 0}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// files lists everything below the working directory with size and time.
func files(t *testing.T) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		list = append(list, fmt.Sprint(path, " ", info.Size(), " ", info.ModTime()))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// self is this test binary, which stands for ddprun-worker.
func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBinaryIsStatic(t *testing.T) {
	file, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, part := range file.Progs {
		if part.Type == elf.PT_INTERP || part.Type == elf.PT_DYNAMIC {
			t.Errorf("ddprun has a %v segment, so it is not static", part.Type)
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--help", "Exit codes:"},
		{"help", "ddprun --nproc 2 train.yaml"},
		{"version", "ddprun "},
		{"--version", "ddprun "},
		{"completion bash", "bash completion"},
	} {
		got := ddprun(t, nil, strings.Fields(c.args)...)
		if got.code != 0 || !strings.Contains(got.stdout, c.want) || got.stderr != "" {
			t.Errorf("ddprun %s: %+v, want code 0 and %q on standard output", c.args, got, c.want)
		}
	}
}

// TestStartsInMilliseconds guards against a dependency that works at start-up. The bound is generous for a busy machine.
func TestStartsInMilliseconds(t *testing.T) {
	best := time.Hour
	for range 10 {
		start := time.Now()
		ddprun(t, nil, "version")
		best = min(best, time.Since(start))
	}
	t.Logf("ddprun version: best of 10 %v", best)
	if best > 100*time.Millisecond {
		t.Errorf("ddprun version takes %v", best)
	}
}

// TestCommandsInHelp: every command of the worker is listed, and the helper is hidden.
func TestCommandsInHelp(t *testing.T) {
	out := ddprun(t, nil, "--help").stdout
	for _, command := range workerCommands {
		if name, _, _ := strings.Cut(command.use, " "); !strings.Contains(out, "  "+name+" ") {
			t.Errorf("help does not list %s", name)
		}
	}
	for _, code := range []int{launch.ExitDone, launch.ExitFailed, launch.ExitComeAgain, launch.ExitConfig, launch.ExitNoProgress} {
		if !strings.Contains(out, fmt.Sprintf("\n  %-6d ", code)) {
			t.Errorf("help does not list the exit code %d", code)
		}
	}
	if strings.Contains(ddprun(t, nil, "version", "--help").stdout, "Exit codes") {
		t.Error("the help of a sub-command repeats the exit codes of training")
	}
	if strings.Contains(out, helperCommand) {
		t.Error("help lists the helper, which is not for people")
	}
}
