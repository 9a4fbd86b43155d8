package launch

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// attemptName is the directory of a generation's logs below Config.LogDir.
func attemptName(generation int) string { return "attempt_" + strconv.Itoa(generation) }

// errorFile is the name of a failure's account beside the logs of its rank.
const errorFile = "error.json"

// writeErrorFile writes f as error.json into its directory, in the form of torch.distributed.elastic's error files, whose
// readers want message.message and message.extraInfo.timestamp (seconds, as text).
func writeErrorFile(f *Failure) error {
	stack := f.Stack
	if stack == "" {
		stack = f.Message
	}
	extra := map[string]any{
		"py_callstack": stack,
		"timestamp":    strconv.FormatInt(f.At.Unix(), 10),
		"rank":         f.Rank,
		"pid":          f.PID,
		"host":         f.Host,
		"phase":        f.Phase,
		"step":         f.Step,
	}
	code := f.ExitCode
	if f.Signal != 0 {
		code = -int(f.Signal) // as Python's subprocess and torchrun write it
	}
	data, err := json.Marshal(map[string]any{
		"message": map[string]any{"message": f.Message, "extraInfo": extra, "errorCode": code},
	})
	if err != nil {
		return fmt.Errorf("launch: error.json: %w", err)
	}
	if err := os.WriteFile(filepath.Join(f.LogDir, errorFile), append(data, '\n'), 0o666); err != nil {
		return fmt.Errorf("launch: error.json: %w", err)
	}
	return nil
}
