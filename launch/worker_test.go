package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/launch/pipe"
)

func TestLogsLieAsTorchrunsDo(t *testing.T) {
	dir := t.TempDir()
	script := `print out; raw "err\r\n\x00partial"; done`
	for range 2 { // a second run keeps the first one's logs
		runScripts(t, agentConfig{Scripts: scripts{{script}}, NProc: 2, LogDir: dir}, nil)
	}
	for _, attempt := range []string{"attempt_0", "attempt_1"} {
		for _, rank := range []string{"0", "1"} {
			for name, want := range map[string]string{"stdout.log": "out\n", "stderr.log": "err\r\n\x00partial"} {
				got, err := os.ReadFile(filepath.Join(dir, attempt, rank, name))
				if err != nil || string(got) != want {
					t.Errorf("%s/%s/%s: %q %v", attempt, rank, name, got, err)
				}
			}
		}
	}
}

func TestTee(t *testing.T) {
	for tee, want := range map[Tee]string{"": "[rank 0] hello\n", TeeNone: "", TeeRank0: "[rank 0] hello\n", TeeAll: "[rank 0] hello\n[rank 1] hello\n"} {
		_, out, _ := runScripts(t, agentConfig{Scripts: scripts{{"print hello; set up; done", "get up; print hello; done"}}, NProc: 2},
			func(c *Config) { c.Tee = tee })
		lines := strings.SplitAfter(out, "\n")
		if len(lines) == 3 && lines[0] > lines[1] {
			lines[0], lines[1] = lines[1], lines[0]
		}
		if got := strings.Join(lines, ""); got != want {
			t.Errorf("tee %q shows %q", tee, got)
		}
	}
}

func TestTorchrunsVariables(t *testing.T) {
	t.Setenv("DDPRUN_KEY", "secret")
	t.Setenv("OMP_NUM_THREADS", "")
	_, out, _ := runScripts(t, agentConfig{Scripts: scripts{{"train", "exit 1"}, {"done", "env; done"}}, NProc: 2, MaxRestarts: 2}, nil)
	for _, want := range []string{
		"RANK=1", "LOCAL_RANK=1", "WORLD_SIZE=2", "LOCAL_WORLD_SIZE=2", "GROUP_RANK=0", "GROUP_WORLD_SIZE=1", "ROLE_RANK=1",
		"ROLE_WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=29500", "TORCHELASTIC_RESTART_COUNT=1", "TORCHELASTIC_MAX_RESTARTS=2",
		fmt.Sprintf("OMP_NUM_THREADS=%d", max(1, runtime.GOMAXPROCS(0)/2)),
	} {
		if !strings.Contains(out, "[rank 1] "+want+"\n") {
			t.Errorf("the environment lacks %s", want)
		}
	}
	for _, unwanted := range []string{"DDPRUN_KEY", pipe.EnvFD, pipe.EnvAgentPID} {
		if strings.Contains(out, unwanted+"=") {
			t.Errorf("the environment has %s", unwanted)
		}
	}
}
