package main

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestBadInput: whatever is wrong has exit code 78, a message that names it, and leaves the directory as it was.
func TestBadInput(t *testing.T) {
	truncated := "\x40\x00\x00\x00\x00\x00\x00\x00{"
	for _, c := range []struct {
		name, args string
		path, text string // a file that is written first
		want       string
	}{
		{"no file", "", "", "", "no configuration file given; want: ddprun [flags] train.yaml"},
		{"two files", "train.yaml other.yaml", "", "", "want one configuration file, got 2: train.yaml other.yaml"},
		{"missing file", "nowhere.yaml", "", "", "nowhere.yaml: cannot read the configuration: no such file or directory"},
		{"directory", "model", "", "", "model: is a directory; name the configuration file in it"},
		{"bad YAML", "train.yaml", "train.yaml", "model: a: b\n", "train.yaml:1: not valid YAML: mapping values are not allowed in this context"},
		{"binary file", "train.yaml", "train.yaml", "\x7fELF\xff", "train.yaml:1: not UTF-8 text"},
		{"unknown key", "train.yaml", "train.yaml", "model: a\nlearning_rat: 1\n", "train.yaml:2: learning_rat: unknown key; did you mean learning_rate?"},
		{"unknown flag", "--nprocs 2 train.yaml", "", "", "unknown flag: --nprocs"},
		{"nproc 0", "--nproc 0 train.yaml", "", "", "--nproc: must be at least 1, got 0"},
		{"nproc negative", "--nproc=-2 train.yaml", "", "", "--nproc: must be at least 1, got -2"},
		{"nproc word", "--nproc_per_node many train.yaml", "", "", `--nproc: want a number of ranks, auto, gpu or cpu, got "many"`},
		{"set", "--set seed=x train.yaml", "", "", `--set seed: seed: want a whole number in decimal digits, got the text "x"`},
		{"lanes", "--nproc-per-node 3 --set global_batch_size=16 train.yaml", "", "", "global_batch_size: 16 is 2 micro-batches of 8, which 3 ranks cannot share"},
		{"log format", "--log-format xml train.yaml", "", "", `--log-format: want console or json, got "xml"`},
		{"tee", "--tee some train.yaml", "", "", `--tee: want rank0, all, none, stdout or stderr, or torchrun's 0 to 3, got "some"`},
		{"restarts", "--max-restarts=-1 train.yaml", "", "", "--max-restarts: must be at least 0, got -1"},
		{"log size", "--log-max-size 1.5 train.yaml", "", "", `invalid argument "1.5" for "--log-max-size" flag: want a number of bytes such as 5000, 100MB or 1GiB`},
		{"attempts", "--log-max-attempts=-1 train.yaml", "", "", "--log-max-attempts: must be at least 0, got -1"},
		{"debug rank", "--debug-rank 2 --nproc 2 train.yaml", "", "", "--debug-rank: there are ranks 0 to 1, got 2"},
		{"time-out", "--step-timeout=-1s train.yaml", "", "", "--step-timeout: must be at least 0, got -1s"},
		{"no model", "--set model=nowhere train.yaml", "", "", "--set model: model: model directory nowhere does not exist"},
		{"no config.json", "--set model=. train.yaml", "", "", "has no config.json"},
		{"damaged config.json", "train.yaml", "model/config.json", "{", "model/config.json"},
		{"model type", "train.yaml", "model/config.json", `{"model_type": "gpt2"}`,
			`train.yaml:1: model: model/config.json: the model_type "gpt2" is not supported; supported architectures: BertForMaskedLM, BertForNextSentencePrediction, `},
		{"architecture", "train.yaml", "model/config.json", `{"model_type": "bert", "architectures": ["BertLMHeadModel"]}`,
			"the architecture BertLMHeadModel is not supported; supported architectures: BertForMaskedLM, BertForNextSentencePrediction, "},
		{"truncated weights", "train.yaml", "model/model.safetensors", truncated, "model/model.safetensors"},
		{"no text", "train.yaml", "train.yaml", "model: model\ndata: [text.txt, '*.md']\noutput_dir: out\n", "train.yaml:2: data: *.md: no such file"},
		{"no evaluation text", "--set eval_data=held.txt train.yaml", "", "", "--set eval_data: eval_data: held.txt: no such file"},
		{"output_dir is a file", "--set output_dir=text.txt train.yaml", "", "", "output_dir: text.txt is a file; name a directory"},
		{"checkpoint", "--set resume_from_checkpoint=last train.yaml", "", "", "resume_from_checkpoint: last is no directory"},
		{"worker", "--worker ./ddprun-worker train.yaml", "", "", "--worker: "},
		{"no worker", "train.yaml", "", "", `ddprun-worker is neither beside ddprun nor in PATH; "make build" builds it`},
		{"command without worker", "tokenize model", "", "", "ddprun-worker is neither beside ddprun nor in PATH"},
	} {
		t.Run(c.name, func(t *testing.T) {
			workplace(t)
			if c.path != "" {
				put(t, c.path, c.text)
			}
			before := files(t)
			got := ddprun(t, []string{"PATH=/nowhere"}, strings.Fields(c.args)...)
			if got.code != 78 || !strings.Contains(got.stderr, c.want) {
				t.Errorf("exit code %d, want 78; standard error\n%swant\n%s", got.code, got.stderr, c.want)
			}
			if strings.Contains(got.stderr, "panic") || got.stdout != "" {
				t.Errorf("standard output %q, standard error %q", got.stdout, got.stderr)
			}
			if after := files(t); !slices.Equal(before, after) {
				t.Errorf("something was written:\n%q\nbefore\n%q", after, before)
			}
		})
	}
}

// TestUnreadableFile runs ddprun as somebody for whom permissions count.
func TestUnreadableFile(t *testing.T) {
	workplace(t)
	if err := os.Chmod("train.yaml", 0); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "train.yaml")
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 78 ||
		!strings.Contains(string(out), "train.yaml: cannot read the configuration: permission denied") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestWorkerCheck: what the worker's check finds ends the command before anything is written.
func TestWorkerCheck(t *testing.T) {
	for _, c := range []struct {
		outcome string
		code    int
		want    string
	}{
		{"wrong", 78, "ddprun: corpus.txt: is empty\n"},
		{"library", 78, `does not start; "make setup" and "make build" put its libraries in place`},
		{"crash", 1, "boom\nddprun: "},
		{"another version", 78, "are the two programs of one version?"},
	} {
		workplace(t)
		before := files(t)
		got := ddprun(t, []string{"FAKE_CHECK=" + c.outcome}, "--worker", self(t), "--nproc", "2", "train.yaml")
		if got.code != c.code || !strings.Contains(got.stderr, c.want) {
			t.Errorf("%s: %+v, want code %d and %q", c.outcome, got, c.code, c.want)
		}
		if after := files(t); !slices.Equal(before, after) {
			t.Errorf("%s: something was written: %q", c.outcome, after)
		}
	}
}

// TestStoppedCheck: a signal while the text is prepared is passed on, and the worker's 75 is ddprun's.
func TestStoppedCheck(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1} {
		workplace(t)
		cmd := exec.CommandContext(t.Context(), binary, "--worker", self(t), "--nproc", "2", "train.yaml")
		cmd.Env = append(os.Environ(), "FAKE_CHECK=long")
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stderr)
		if !lines.Scan() || lines.Text() != "preparing" {
			t.Fatalf("%q", lines.Text())
		}
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		said := ""
		for lines.Scan() {
			said += lines.Text()
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 75 || said != "stopped on request" {
			t.Errorf("%v: exit code %d, %q", s, code, said)
		}
	}
}

func TestDryRunAndPrintConfig(t *testing.T) {
	workplace(t)
	before := files(t)
	printed := ddprun(t, nil, "--print-config", "--set", "seed=7", "train.yaml")
	dry := ddprun(t, nil, "--dry-run", "--worker", self(t), "--nproc", "2", "--set", "seed=7", "train.yaml")
	for _, want := range []string{"model: \"model\"", "# train.yaml:1\n", "seed: 7", "# --set seed\n", "learning_rate: 0.00005", "# default\n"} {
		if !strings.Contains(printed.stdout, want) {
			t.Errorf("--print-config: no %q in\n%s", want, printed.stdout)
		}
	}
	if printed.code != 0 || dry.code != 0 || dry.stdout != printed.stdout {
		t.Errorf("--print-config %+v\n--dry-run %+v", printed, dry)
	}
	if after := files(t); !slices.Equal(before, after) {
		t.Errorf("something was written: %q", after)
	}
	put(t, "again.yaml", printed.stdout)
	if again := ddprun(t, nil, "--print-config", "again.yaml"); again.code != 0 || !strings.Contains(again.stdout, "seed: 7") {
		t.Errorf("what --print-config printed is not a configuration: %+v", again)
	}
}

// TestTrain runs two ranks of the fake worker: configuration, environment and exit code go through.
func TestTrain(t *testing.T) {
	workplace(t)
	env := []string{"DDPRUN_CFG_SEED=11", "DDPRUN_CFG_WARMUP_RATIO=0.1"}
	args := []string{"--worker", self(t), "--nproc_per_node", "2", "--tee", "all", "train.yaml"}
	got := ddprun(t, env, args...)
	if got.code != 0 || !strings.Contains(got.stdout, "seed 11 rank 0 of 2") || !strings.Contains(got.stdout, "seed 11 rank 1 of 2") {
		t.Errorf("%+v", got)
	}
	if want := "DDPRUN_CFG_WARMUP_RATIO: warmup_ratio: a name of transformers 4; taken as warmup_steps: 0.1"; !strings.Contains(got.stderr, want) {
		t.Errorf("no note in the log: %s", got.stderr)
	}
	if _, err := os.Stat("out/logs/attempt_0/1/stdout.log"); err != nil {
		t.Error(err)
	}
	failed := ddprun(t, append(env, "FAKE_RANK=1"), args...)
	if failed.code != 1 || !strings.Contains(failed.stderr, "rank 1") {
		t.Errorf("a rank fails: %+v", failed)
	}
}

func TestJSONLog(t *testing.T) {
	workplace(t)
	got := ddprun(t, []string{"DDPRUN_CFG_WARMUP_RATIO=0.1"}, "--print-config", "--log-format", "json", "train.yaml")
	if got.code != 0 || !strings.HasPrefix(got.stderr, `{"level":"info"`) {
		t.Errorf("%+v", got)
	}
}

// TestWorkerCommands: ddprun becomes the worker, whose arguments and exit code are passed on as they are.
func TestWorkerCommands(t *testing.T) {
	got := ddprun(t, nil, "--worker", self(t), "tokenize", "model", "--jsonl", "-x", "--help")
	if want := `["tokenize" "model" "--jsonl" "-x" "--help"]` + "\n"; got.code != 3 || got.stdout != want {
		t.Errorf("got %+v, want code 3 and %s", got, want)
	}
}
