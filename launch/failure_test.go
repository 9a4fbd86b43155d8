package launch

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
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

// TestFailuresWordsSteerNoTerminal: neither in the log nor in error.json, which people print.
func TestFailuresWordsSteerNoTerminal(t *testing.T) {
	dir := t.TempDir()
	outcome, _, errOut := runScripts(t, agentConfig{NProc: 2, LogDir: dir, Scripts: scripts{{"train", "raw \"\\x1b[31mred\\n\"; error a \x1b[2J\u009b b\u202ec; exit 1"}}}, nil)
	const want = `a \x1b[2J\u009b b\u202ec`
	data, err := os.ReadFile(filepath.Join(dir, "attempt_0", "1", "error.json"))
	var filed struct {
		Message struct {
			Message   string         `json:"message"`
			ExtraInfo map[string]any `json:"extraInfo"`
		} `json:"message"`
	}
	if err := json.Unmarshal(data, &filed); err != nil {
		t.Fatal(err)
	}
	if err != nil || filed.Message.Message != want || filed.Message.ExtraInfo["py_callstack"] != want || outcome.Failure.Message != want {
		t.Errorf("%s %v", data, err)
	}
	if strings.ContainsAny(errOut, "\x1b\u009b\u202e") {
		t.Errorf("%q", errOut)
	}
}

func TestEscapeTextKeepsLines(t *testing.T) {
	if got := escapeText("a\n\tb\r\n\x00"); got != "a\n\tb\\x0d\n\\x00" {
		t.Errorf("%q", got)
	}
}
