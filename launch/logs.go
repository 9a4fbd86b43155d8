package launch

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// attemptDir creates the directory of a new attempt, with one a rank in it, and returns it with its number: the first one
// above all that are there, so that no earlier log is overwritten and two runs never share one.
func attemptDir(logDir string, ranks int) (string, int, error) {
	if err := os.MkdirAll(logDir, 0o777); err != nil {
		return "", 0, fmt.Errorf("launch: log directory: %w", err)
	}
	entries, err := os.ReadDir(logDir)
	if err != nil {
		return "", 0, fmt.Errorf("launch: log directory: %w", err)
	}
	number := 0
	for _, entry := range entries {
		var n int
		if _, err := fmt.Sscanf(entry.Name(), "attempt_%d", &n); err == nil && n >= number {
			number = n + 1
		}
	}
	for ; ; number++ {
		dir := filepath.Join(logDir, "attempt_"+strconv.Itoa(number))
		if err := os.Mkdir(dir, 0o777); os.IsExist(err) {
			continue
		} else if err != nil {
			return "", 0, fmt.Errorf("launch: log directory: %w", err)
		}
		for rank := range ranks {
			if err := os.Mkdir(filepath.Join(dir, strconv.Itoa(rank)), 0o777); err != nil {
				return "", 0, fmt.Errorf("launch: log directory: %w", err)
			}
		}
		return dir, number, nil
	}
}

// errorFile is the name of a failure's account beside the logs of its rank.
const errorFile = "error.json"

// writeErrorFile writes f as error.json into its directory, in the form of torch.distributed.elastic's error files, whose
// readers want message.message and message.extraInfo.timestamp (seconds, as text).
func writeErrorFile(f *Failure, at time.Time) error {
	stack := f.Stack
	if stack == "" {
		stack = f.Message
	}
	extra := map[string]any{
		"py_callstack": stack,
		"timestamp":    strconv.FormatInt(at.Unix(), 10),
		"rank":         f.Rank,
		"pid":          f.PID,
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
