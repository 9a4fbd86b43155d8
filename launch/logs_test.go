package launch

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestNextAttemptIsAboveAll(t *testing.T) {
	logs := filepath.Join(t.TempDir(), "a", "logs")
	want := func(want int) {
		t.Helper()
		if r := (&memory{logDir: logs}).read(0, false); r.Err != nil || r.Next != want {
			t.Errorf("%d %v, want %d", r.Next, r.Err, want)
		}
	}
	want(0)
	for _, name := range []string{"attempt_0", "attempt_41", "attempt_x"} {
		os.MkdirAll(filepath.Join(logs, name), 0o777)
	}
	want(42)
}

func TestErrorFileOfASignal(t *testing.T) {
	dir := t.TempDir()
	at := time.Unix(1700000000, 0)
	if err := writeErrorFile(&Failure{LogDir: dir, ExitCode: -1, Signal: syscall.SIGSEGV, Message: "killed by SIGSEGV", At: at}); err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile(filepath.Join(dir, "error.json"))
	var filed map[string]map[string]any
	if err := json.Unmarshal(data, &filed); err != nil {
		t.Fatal(err)
	}
	extra := filed["message"]["extraInfo"].(map[string]any)
	if filed["message"]["errorCode"] != -11.0 || extra["timestamp"] != "1700000000" || extra["py_callstack"] != "killed by SIGSEGV" {
		t.Errorf("%s", data)
	}
	if err := writeErrorFile(&Failure{LogDir: filepath.Join(dir, "none"), At: at}); err == nil {
		t.Error("a file was written to nowhere")
	}
}
