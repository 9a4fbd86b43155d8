package launch

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFailureIsFiledAndItsLastLinesShown(t *testing.T) {
	dir := t.TempDir()
	failing := `progress train 41 40; raw "one\x1b[31m\ntwo"; error disk\tfull; exit 5`
	outcome, out, errOut := runScripts(t, agentConfig{Scripts: scripts{{"print quiet; train", failing}}, NProc: 2, LogDir: dir},
		func(c *Config) { c.Tee = TeeNone })
	f := outcome.Failure
	if f == nil || f.ExitCode != 5 || f.Step != 41 || strings.Join(f.LastLines, "|") != `one\x1b[31m|two` {
		t.Fatalf("failure: %+v", f)
	}
	if out != "" || errOut != "[rank 1] one\\x1b[31m\n[rank 1] two\n" {
		t.Errorf("shown: %q %q", out, errOut)
	}
	text := f.Error()
	for _, part := range []string{"rank 1", "train at step 41", "disk", "exit code 5", filepath.Join(dir, "attempt_0", "1")} {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "attempt_0", "1", "error.json"))
	if err != nil {
		t.Fatal(err)
	}
	var filed struct {
		Message struct {
			Message   string
			ErrorCode int
			ExtraInfo map[string]any
		}
	}
	if err := json.Unmarshal(data, &filed); err != nil {
		t.Fatal(err)
	}
	if m := filed.Message; m.Message != f.Message || m.ErrorCode != 5 || m.ExtraInfo["timestamp"] == "" || m.ExtraInfo["py_callstack"] == nil {
		t.Errorf("error.json: %s", data)
	}
	if _, err := os.Stat(filepath.Join(dir, "attempt_0", "0", "error.json")); !os.IsNotExist(err) {
		t.Errorf("the other rank has an error.json: %v", err)
	}
}
