package launch

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestAttemptDirIsNewEachTime(t *testing.T) {
	logs := filepath.Join(t.TempDir(), "a", "logs")
	for want := range 3 {
		dir, number, err := attemptDir(logs, 2)
		if err != nil || number != want {
			t.Fatal(dir, number, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "1")); err != nil {
			t.Error(err)
		}
	}
	os.Mkdir(filepath.Join(logs, "attempt_41"), 0o777)
	os.WriteFile(filepath.Join(logs, "attempt_x"), nil, 0o666)
	if _, number, err := attemptDir(logs, 1); err != nil || number != 42 {
		t.Error(number, err)
	}
}

func TestErrorFileOfASignal(t *testing.T) {
	dir := t.TempDir()
	at := time.Unix(1700000000, 0)
	if err := writeErrorFile(&Failure{LogDir: dir, ExitCode: -1, Signal: syscall.SIGSEGV, Message: "killed by SIGSEGV"}, at); err != nil {
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
	if err := writeErrorFile(&Failure{LogDir: filepath.Join(dir, "none")}, at); err == nil {
		t.Error("a file was written to nowhere")
	}
}
