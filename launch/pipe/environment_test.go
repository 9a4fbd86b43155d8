package pipe

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets the test binary stand for a worker: it takes up the line and says what came of it.
func TestMain(m *testing.M) {
	if os.Getenv("PIPE_TEST_WORKER") == "" {
		os.Exit(m.Run())
	}
	w, err := FromEnvironment("child")
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	w.Progress(Progress{Phase: PhaseSetup, Step: 9})
	for _, s := range JobSignals {
		fmt.Println(s, signal.Ignored(s))
	}
	fmt.Println("variables:", os.Getenv(EnvFD)+os.Getenv(EnvAgentPID))
	w.Close()
	os.Exit(0)
}

// runChild starts this test binary as a worker with the given variables and file as descriptor 3.
func runChild(t *testing.T, file *os.File, env ...string) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), append(env, "PIPE_TEST_WORKER=1")...)
	if file != nil {
		cmd.ExtraFiles = []*os.File{file}
	}
	out, _ := cmd.CombinedOutput()
	return string(out)
}

func TestFromEnvironmentTakesUpTheLine(t *testing.T) {
	conn, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	agent := NewAgent(conn, Start{WorldSize: 1}, NewMemStore())
	out := runChild(t, file, EnvFD+"=3", fmt.Sprintf("%s=%d", EnvAgentPID, os.Getpid()))
	file.Close()
	<-agent.Ended()
	if agent.Report().Progress.Step != 9 || agent.Report().Hello.Program != "child" {
		t.Errorf("the agent heard %+v", agent.Report())
	}
	if strings.Count(out, "true") != len(JobSignals) {
		t.Errorf("not all signals are ignored:\n%s", out)
	}
	if !strings.Contains(out, "variables: \n") {
		t.Errorf("the line's variables are still there:\n%s", out)
	}
}

func TestFromEnvironmentRefusals(t *testing.T) {
	conn, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer file.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	self := fmt.Sprintf("%s=%d", EnvAgentPID, os.Getpid())
	for _, c := range []struct {
		name, fd, pid string
		file          *os.File
		want          string
	}{
		{"no agent", EnvFD + "=", self, file, "not started by ddprun"},
		{"another parent", EnvFD + "=3", EnvAgentPID + "=1", file, "process 1, which started this worker, has died"},
		{"no parent", EnvFD + "=3", EnvAgentPID + "=", file, "no process id"},
		{"no number", EnvFD + "=three", self, file, "no descriptor"},
		{"standard output", EnvFD + "=1", self, file, "no descriptor"},
		{"another file", EnvFD + "=3", self, null, "not the agent's socket"},
		{"closed", EnvFD + "=77", self, nil, "not the agent's socket"},
	} {
		if out := runChild(t, c.file, c.fd, c.pid); !strings.Contains(out, c.want) {
			t.Errorf("%s: %q does not say %q", c.name, out, c.want)
		}
	}
}

func TestWithoutAgentSignalsStayAsTheyWere(t *testing.T) {
	t.Setenv(EnvFD, "")
	if _, err := FromEnvironment("test"); !errors.Is(err, ErrNoAgent) {
		t.Fatal(err)
	}
	if signal.Ignored(syscall.SIGTERM) {
		t.Fatal("a program that is no worker ignores SIGTERM")
	}
}
