package checkpoint

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ddprun/ddprun/internal/generation"
)

// childVariable makes the test binary a child that writes checkpoints; its value is the output directory.
const childVariable = "DDPRUN_TEST_CHECKPOINT_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		if err := childMain(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	os.RemoveAll(templates())
	os.Exit(code)
}

// childMain saves one checkpoint after another, twice each, until it is killed or has made as many as it is told to, and
// says "saved <step>" for each.
func childMain() error {
	out, t := os.Getenv(childVariable), childT{}
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(os.Getenv(name), 10, 64)
		return n
	}
	if limit := number("FILE_LIMIT"); limit > 0 {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: uint64(limit), Max: uint64(limit)}); err != nil {
			return err
		}
	}
	generation := uint64(number("GENERATION"))
	if at := os.Getenv("STOP_AT"); at != "" {
		between = func(name string) {
			if name == at {
				between = func(string) {}
				syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			}
		}
	}
	if _, err := Clean(out, generation); err != nil {
		return err
	}
	first := int64(1)
	newest, broken, err := Latest(context.Background(), out)
	if err != nil || len(broken) > 0 {
		return fmt.Errorf("at start: %v, %v", broken, err)
	}
	if newest != nil {
		first = newest.State.Step + 1
	}
	for step := first; step < first+number("STEPS"); step++ {
		s := snapshot(t, os.Getenv("MODEL"), step, number("ELEMENTS"))
		s.State.Generation = generation
		for range 2 { // the second replaces the first
			if err := Save(context.Background(), SaveConfig{OutputDir: out}, s); err != nil {
				return err
			}
			fmt.Println("saved", step)
		}
		if err := Prune(out, 2, generation); err != nil {
			return err
		}
		if err := SaveModel(context.Background(), out, generation, s.Model); err != nil {
			return err
		}
	}
	return nil
}

// childT lets childMain use the tests' helpers.
type childT struct{ testing.TB }

func (childT) Helper()           {}
func (childT) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

func child(out, model string, settings ...string) *exec.Cmd {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childVariable+"="+out, "MODEL="+model)
	c.Env = append(c.Env, settings...)
	return c
}

// Killed at random moments, a run loses nothing that Save has reported, and what is found is complete.
func TestKilledWhileSaving(t *testing.T) {
	out, model := t.TempDir(), modelDir(t)
	draws := rand.New(rand.NewPCG(1, 2))
	reported, leftovers, attempts := int64(0), 0, 12
	if os.Getenv("DDPRUN_TEST_ALL") != "" {
		attempts = 50
	}
	for attempt := range attempts {
		c := child(out, model, "STEPS=1000000", "ELEMENTS=50000", "GENERATION="+strconv.Itoa(attempt))
		pipe, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var complaint strings.Builder
		c.Stderr = &complaint
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(pipe)
		if lines.Scan() { // the first checkpoint of this attempt is there; from now on any moment may be the last
			time.AfterFunc(time.Duration(draws.IntN(60000))*time.Microsecond, func() { c.Process.Kill() })
		}
		for more := lines.Text() != ""; more; more = lines.Scan() {
			if _, err := fmt.Sscanf(lines.Text(), "saved %d", &reported); err != nil {
				t.Fatalf("the child said %q", lines.Text())
			}
		}
		if err := c.Wait(); err == nil || complaint.Len() > 0 {
			t.Fatalf("attempt %d ended by itself: %v %s", attempt, err, complaint.String())
		}
		for _, left := range names(t, filepath.Join(out, privateDir)) {
			if scratchName.MatchString(left) {
				leftovers++
			}
		}
		if _, err := Clean(out, uint64(attempt)); err != nil {
			t.Fatal(err)
		}
		newest, broken, err := Latest(context.Background(), out)
		if err != nil || newest == nil || len(broken) > 0 {
			t.Fatalf("attempt %d: newest %v, broken %v, error %v", attempt, newest, broken, err)
		}
		if newest.State.Step < reported {
			t.Fatalf("attempt %d: step %d was reported saved, and the newest is %d", attempt, reported, newest.State.Step)
		}
		checkTensors(t, newest, snapshot(t, model, newest.State.Step, 50000))
		for _, left := range names(t, filepath.Join(out, privateDir)) {
			if left != manifestFile {
				t.Fatalf("attempt %d: Clean left %s", attempt, left)
			}
		}
	}
	if err := Prune(out, 2, uint64(attempts-1)); err != nil {
		t.Fatal(err)
	}
	if left, err := list(out); err != nil || len(left) != 2 || left[1].step < reported {
		t.Errorf("pruned to %v, error %v", left, err)
	}
	t.Logf("%d steps saved, %d leftovers seen", reported, leftovers)
	if leftovers == 0 {
		t.Error("no attempt was killed while it wrote: the test has lost its point")
	}
}

// A process of a generation is stopped right before the rename of its checkpoint; the next generation takes over, and passes it; the process goes on. Nothing of what the next one has made
// changes.
func TestStoppedBeforeTheRename(t *testing.T) {
	out, model := t.TempDir(), modelDir(t)
	c := child(out, model, "STEPS=3", "ELEMENTS=100", "GENERATION=1", "STOP_AT=commit: may write")
	var said strings.Builder
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(c.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("%v, %v: %s", status, err, said.String())
	}
	if won, err := generation.Claim(out, 2, []byte(`{"generation": 2}`)); err != nil || !won {
		t.Fatal(won, err)
	}
	next := snapshot(t, model, 3, 100)
	next.State.Generation = 2
	err := Begin(out, 2, 0, Run{})
	for _, err := range []error{err, Save(t.Context(), SaveConfig{OutputDir: out}, next), SaveModel(t.Context(), out, 2, next.Model)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	left := tree(t, filepath.Join(out, "checkpoint-3"))
	if err := c.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil || !strings.Contains(said.String(), "another generation has taken over") {
		t.Errorf("the old one: %v, %s", err, said.String())
	}
	if now := tree(t, filepath.Join(out, "checkpoint-3")); !maps.Equal(left, now) {
		t.Errorf("checkpoint-3 has changed: %q", now)
	}
	newest, broken, err := Latest(context.Background(), out)
	if err != nil || len(broken) > 0 || newest == nil || newest.State.Generation != 2 {
		t.Errorf("newest %v, broken %v, error %v", newest, broken, err)
	}
	// Its checkpoint came, too late: it is there, does not count, and goes when the next one is pruned.
	wantNames(t, out, privateDir, "checkpoint-1", "checkpoint-3", "config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt")
	d, err := Decide(context.Background(), out, ResumeAuto, false)
	if err != nil || d.Resume == nil || d.Resume.State.Step != 3 || len(d.Left) != 1 || filepath.Base(d.Left[0]) != "checkpoint-1" {
		t.Errorf("%+v, %v", d, err)
	}
	if err := Prune(out, 5, 2); err != nil {
		t.Fatal(err)
	}
	wantNames(t, out, privateDir, "checkpoint-3", "config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt")
}

// Between setting a complete checkpoint aside and putting its replacement in place, a crash leaves it to Clean.
func TestKilledWhileReplacing(t *testing.T) {
	out := t.TempDir()
	mustSave(t, out, 10, 20)
	aside, err := scratch(out, kindReplaced, 3, "checkpoint-20")
	if err != nil {
		t.Fatal(err)
	}
	if err := move(filepath.Join(out, "checkpoint-20"), aside); err != nil {
		t.Fatal(err)
	}
	if _, err := Clean(out, 4); err != nil {
		t.Fatal(err)
	}
	newest, _, err := Latest(context.Background(), out)
	if err != nil || newest == nil || newest.State.Step != 20 {
		t.Errorf("newest %v, error %v", newest, err)
	}
}

// checkIntact holds after a failed save: the earlier checkpoint is complete, no room is held, the message names the file.
func checkIntact(t *testing.T, out string, failure error, want error, file string) {
	t.Helper()
	if failure == nil || want != nil && !errors.Is(failure, want) || !strings.Contains(failure.Error(), file) {
		t.Errorf("error %v, want %v that names %s", failure, want, file)
	}
	newest, broken, err := Latest(context.Background(), out)
	if err != nil || len(broken) > 0 || newest == nil || newest.State.Step != 10 {
		t.Errorf("newest %v, broken %v, error %v", newest, broken, err)
	}
	for _, left := range names(t, filepath.Join(out, privateDir)) {
		if left != manifestFile {
			t.Errorf("%s was left behind", left)
		}
	}
}

func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	out := t.TempDir()
	if err := unix.Mount("tmpfs", out, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("cannot mount a small file system: ", err)
	}
	defer func() {
		if err := unix.Unmount(out, 0); err != nil {
			t.Error(err)
		}
	}()
	mustSave(t, out, 10)
	model := modelDir(t)
	for elements, file := range map[int64]string{300_000: modelFile, 100_000: optimizerFile} {
		s := snapshot(t, model, 20, elements)
		checkIntact(t, out, Save(context.Background(), SaveConfig{OutputDir: out}, s), unix.ENOSPC, file)
	}
	s := snapshot(t, model, 20, 300_000)
	checkIntact(t, out, SaveModel(context.Background(), out, 1, s.Model), unix.ENOSPC, modelFile)
	wantNames(t, out, privateDir, "checkpoint-10")
	// Then there is room again.
	if err := Save(context.Background(), SaveConfig{OutputDir: out}, snapshot(t, model, 20, 1000)); err != nil {
		t.Error(err)
	}
}

func TestFileSizeLimit(t *testing.T) {
	out, model := t.TempDir(), modelDir(t)
	mustSave(t, out, 10)
	output, err := child(out, model, "STEPS=1", "ELEMENTS=100000", "FILE_LIMIT=200000").CombinedOutput()
	if err == nil {
		t.Fatal("the child saved beyond its limit")
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("the child ended with %v: %s", err, output)
	}
	checkIntact(t, out, errors.New(string(output)), nil, modelFile)
	if !strings.Contains(string(output), syscall.EFBIG.Error()) {
		t.Errorf("the child said %s", output)
	}
}

func TestReadOnlyDirectory(t *testing.T) {
	out := t.TempDir()
	mustSave(t, out, 10)
	if os.Getuid() == 0 { // permissions don't hold root back, a read-only mount does
		if err := unix.Mount(out, out, "", unix.MS_BIND, ""); err != nil {
			t.Skip("cannot mount: ", err)
		}
		defer unix.Unmount(out, 0)
		if err := unix.Mount("", out, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Skip("cannot remount: ", err)
		}
	} else if err := os.Chmod(filepath.Join(out, privateDir), 0o555); err != nil {
		t.Fatal(err)
	} else {
		defer os.Chmod(filepath.Join(out, privateDir), 0o755)
	}
	s := snapshot(t, modelDir(t), 20, 100)
	checkIntact(t, out, Save(context.Background(), SaveConfig{OutputDir: out}, s), nil, "save-g3-checkpoint-20")
	checkIntact(t, out, SaveModel(context.Background(), out, 3, s.Model), nil, "save-g3-model")
}
