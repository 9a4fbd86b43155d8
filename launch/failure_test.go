package launch

import (
	"testing"
)

func TestFirstFailureIsReported(t *testing.T) {
	for _, c := range []struct {
		name    string
		scripts []string
		rank    int
		message string
	}{
		{"first by time", []string{"set up; sleep 200ms; error second; exit 1", "get up; error first; exit 1"}, 1, "first"},
		{"an echo that is faster", []string{"get up; echo peer lost; exit 1", "set up; sleep 200ms; error the cause; exit 1"}, 1, "the cause"},
		{"an echo and a crash", []string{"get up; echo peer lost; exit 1", "set up; sleep 200ms; signal 9; hang"}, 1, "killed (SIGKILL), as the kernel does when memory is short"},
		{"only an echo", []string{"echo peer lost; exit 1", "train"}, 0, "peer lost"},
		{"without an account", []string{"train", "raw \"last words\\n\"; exit 4"}, 1, "it gave no account of why; the end of its output may"},
	} {
		t.Run(c.name, func(t *testing.T) {
			outcome, _, _ := runScripts(t, agentConfig{Scripts: scripts{c.scripts}, NProc: 2}, nil)
			if f := outcome.Failure; f == nil || f.Rank != c.rank || f.Message != c.message {
				t.Fatalf("failure: %+v", f)
			}
		})
	}
}
