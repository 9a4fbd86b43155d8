package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// metricsFile is metrics.jsonl: one JSON object a line, appended whole.
type metricsFile struct{ f *os.File }

// openMetrics opens the file for a run that begins after step steps. Of an earlier run it keeps what came up to that step, so that each
// step is told once.
func openMetrics(path string, step int64) (*metricsFile, error) {
	kept, err := earlierMetrics(path, step)
	if err != nil {
		return nil, err
	}
	next := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new") // hidden: a crash leaves nothing to lose behind
	if err := os.WriteFile(next, kept, 0o666); err != nil {
		return nil, err
	}
	if err := os.Rename(next, path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	return &metricsFile{f}, nil
}

// earlierMetrics returns the lines of the first step steps.
func earlierMetrics(path string, step int64) ([]byte, error) {
	if step == 0 {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var kept []byte
	for line := range bytes.Lines(raw) {
		var entry struct {
			Step    *int64   `json:"step"`
			Runtime *float64 `json:"train_runtime"` // the summary of a run that was made longer
		}
		if json.Unmarshal(line, &entry) != nil || entry.Step == nil || *entry.Step > step || entry.Runtime != nil {
			continue // also a line that a crash cut short
		}
		kept = append(append(kept, bytes.TrimSuffix(line, []byte("\n"))...), '\n')
	}
	return kept, nil
}

// write appends an entry.
func (m *metricsFile) write(entry map[string]any) error {
	line, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	_, err = m.f.Write(append(line, '\n'))
	return err
}

func (m *metricsFile) close() error { return m.f.Close() }
