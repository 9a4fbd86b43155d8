package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ddprun/ddprun/internal/checkpoint"
)

// metricsFile is metrics.jsonl: one JSON object a line, appended whole.
type metricsFile struct{ f *os.File }

// openMetrics opens the file for a run that begins after step steps. Of an earlier run it keeps what came up to that step, so that each
// step is told once. It is a new file: what a rank of an earlier generation still appends goes to the old one, which has no name any more.
func openMetrics(job *Job, step int64) (*metricsFile, error) {
	dir := job.Config.OutputDir
	kept, err := earlierMetrics(filepath.Join(dir, metricsName), step)
	if err != nil {
		return nil, err
	}
	next, err := checkpoint.NewFile(dir, job.Generation, metricsName)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(kept)
	if err == nil {
		err = checkpoint.Replace(dir, job.Generation, next, metricsName)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &metricsFile{f}, nil
}

const metricsName = "metrics.jsonl"

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
