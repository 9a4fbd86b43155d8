package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ddprun/ddprun/internal/generation"
	"github.com/ddprun/ddprun/launch/agree"
)

// outcomeName is the file below output_dir/.ddprun that says how a run ended.
const outcomeName = "outcome.json"

// archive carries out file operations on a goroutine of its own, in order: a file system that hangs holds up nothing else.
type archive struct {
	files files
	tasks chan func(files)
}

// files is what the machine's file operations do: in the output directory, or in memory where there is none.
type files interface {
	read(asked time.Duration, claimsOnly bool) agree.Records
	claim(record agree.Record) agree.Claimed
	writeOutcome(o agree.Outcome) error
}

func newArchive(c Config) archive {
	a := archive{tasks: make(chan func(files), 64)}
	if c.OutputDir == "" {
		a.files = &memory{logDir: c.LogDir}
	} else {
		a.files = directory{c.OutputDir, c.LogDir, c.Newest}
	}
	go func() {
		for task := range a.tasks {
			task(a.files)
		}
	}()
	return a
}

// do gives the goroutine a task. Where so many wait that there is no room the file system hangs, and one more would not be done either.
func (a archive) do(task func(files)) {
	select {
	case a.tasks <- task:
	default:
	}
}

func (a archive) close() { close(a.tasks) }

// directory keeps the records in the output directory.
type directory struct {
	output, logs string
	newest       func() (int64, error)
}

func (d directory) read(asked time.Duration, claimsOnly bool) agree.Records {
	records := agree.Records{Asked: asked}
	n, data, err := generation.Highest(d.output)
	if err == nil && n >= 0 {
		records.Highest = &agree.Record{}
		if err = json.Unmarshal(data, records.Highest); err != nil {
			err = fmt.Errorf("launch: the record of generation %d: %w", n, err)
		}
	}
	errs := []error{err}
	if !claimsOnly {
		records.Next, err = generation.Next(d.output, d.logs)
		errs = append(errs, err)
		if d.newest != nil {
			records.Newest, err = d.newest()
			errs = append(errs, err)
		}
	}
	records.Outcome, err = d.readOutcome()
	records.Err = errors.Join(append(errs, err)...)
	return records
}

func (d directory) readOutcome() (*agree.Outcome, error) {
	data, err := generation.ReadFile(d.output, outcomeName)
	if err != nil || data == nil {
		return nil, err
	}
	o := &agree.Outcome{}
	if err := json.Unmarshal(data, o); err != nil {
		return nil, fmt.Errorf("launch: %s: %w", outcomeName, err)
	}
	return o, nil
}

func (d directory) claim(record agree.Record) agree.Claimed {
	data, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return agree.Claimed{Number: record.Number, Err: err}
	}
	won, err := generation.Claim(d.output, record.Number, append(data, '\n'))
	return agree.Claimed{Number: record.Number, Won: won, Err: err}
}

func (d directory) writeOutcome(o agree.Outcome) error {
	data, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return err
	}
	return generation.WriteFile(d.output, outcomeName, append(data, '\n'))
}

// memory keeps the records of a run without an output directory: one node's, whose workers write nothing.
type memory struct {
	logDir  string
	highest *agree.Record
}

func (m *memory) read(asked time.Duration, _ bool) agree.Records {
	used, err := generation.Attempts(m.logDir) // no earlier log is overwritten
	if m.highest != nil {
		used = append(used, m.highest.Number)
	}
	return agree.Records{Asked: asked, Highest: m.highest, Next: slices.Max(append(used, -1)) + 1, Err: err}
}

func (m *memory) claim(record agree.Record) agree.Claimed {
	m.highest = &record
	return agree.Claimed{Number: record.Number, Won: true}
}

func (m *memory) writeOutcome(agree.Outcome) error { return nil }
