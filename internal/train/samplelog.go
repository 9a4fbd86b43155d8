package train

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/checkpoint"
	"github.com/ddprun/ddprun/shard"
)

// sampleLog is what a rank has trained on: output_dir/samples/rank-<rank>.jsonl, a line for each lane of a step, written before the next step begins.
type sampleLog struct {
	f    *os.File
	data *shard.Dataset
	line []byte
}

// sampleLine is a lane's micro-batch of a step. Step counts as the metrics do, from 1; the others from 0.
type sampleLine struct {
	Step    int64   `json:"step"`
	Epoch   int64   `json:"epoch"`
	Lane    int     `json:"lane"`
	Numbers []int64 `json:"numbers"` // in the epoch, what `ddprun inspect --sample` takes
	Streams []int   `json:"streams"` // of each, and its number in it
	Samples []int64 `json:"samples"`
	Skipped bool    `json:"skipped,omitempty"` // the gradient was not finite
}

// laneSamples is the samples of a lane in a step, by their numbers in the epoch.
type laneSamples struct {
	epoch   int64
	lane    int
	numbers []int64
}

// openSampleLog opens this rank's log for a run that begins after step steps; nil where none is wanted. Of what an earlier run wrote, under any number of
// ranks, it keeps what came up to that step. Every rank calls it: rank 0 cuts, and the others wait for it.
func openSampleLog(r *rank, step int64) (*sampleLog, error) {
	dir := filepath.Join(r.job.Config.OutputDir, samplesDir)
	if r.job.Rank == 0 {
		if err := cutSampleLogs(r.job, step); err != nil {
			return nil, markWrite(err) // the end of this rank ends the others' wait
		}
	}
	if !r.job.Config.SampleLog {
		return nil, nil
	}
	if err := ddp.Barrier(r.sums); err != nil {
		return nil, mark(ErrPeer, err)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, mark(ErrPermanent, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("rank-%d.jsonl", r.job.Rank)), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		return nil, mark(ErrPermanent, err)
	}
	return &sampleLog{f: f, data: r.job.Train}, nil
}

// samplesDir is where sample logs lie in output_dir.
const samplesDir = "samples"

// cutSampleLogs cuts every log of the run behind its lines of the first step steps.
func cutSampleLogs(job *Job, step int64) error {
	logs, err := filepath.Glob(filepath.Join(job.Config.OutputDir, samplesDir, "rank-*.jsonl"))
	if err != nil {
		return err
	}
	for _, path := range logs {
		if err := cutSampleLog(job, filepath.Base(path), step); err != nil {
			return err
		}
	}
	return nil
}

// cutSampleLog cuts a log behind its lines of the first step steps; a line that a crash has left half-written ends them. A log of no line is removed. What is kept is
// copied into a new file: a line that a rank of an earlier generation still appends goes to the old one, which has no name any more.
func cutSampleLog(job *Job, name string, step int64) error {
	dir, name := job.Config.OutputDir, filepath.Join(samplesDir, name)
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	kept := int64(0)
	for in := bufio.NewReader(f); ; {
		line, err := in.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		var entry sampleLine
		if err != nil || json.Unmarshal(line, &entry) != nil || entry.Step > step {
			break
		}
		kept += int64(len(line))
	}
	if kept == 0 {
		return checkpoint.Remove(dir, job.Generation, name)
	}
	next, err := checkpoint.NewFile(dir, job.Generation, name)
	if err != nil {
		return err
	}
	if err := copyBeginning(next, f, kept); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return checkpoint.Replace(dir, job.Generation, next, name)
}

// copyBeginning makes a file of the first n bytes of another.
func copyBeginning(path string, from *os.File, n int64) error {
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	if _, err = from.Seek(0, io.SeekStart); err == nil {
		_, err = io.CopyN(to, from, n)
	}
	return errors.Join(err, to.Close())
}

// write appends the lanes of a step that is done.
func (l *sampleLog) write(step int64, lanes []laneSamples, skipped bool) error {
	if l == nil {
		return nil
	}
	l.line = l.line[:0]
	for _, lane := range lanes {
		if len(lane.numbers) == 0 {
			continue
		}
		entry := sampleLine{Step: step, Epoch: lane.epoch, Lane: lane.lane, Numbers: lane.numbers, Skipped: skipped}
		for _, number := range lane.numbers {
			ref := l.data.Ref(lane.epoch, number)
			entry.Streams, entry.Samples = append(entry.Streams, ref.Stream), append(entry.Samples, ref.Sample)
		}
		line, err := json.Marshal(entry)
		if err != nil {
			return err
		}
		l.line = append(append(l.line, line...), '\n')
	}
	_, err := l.f.Write(l.line)
	return mark(ErrPermanent, err)
}

func (l *sampleLog) close() error {
	if l == nil {
		return nil
	}
	if err := l.f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return mark(ErrPermanent, err)
	}
	return nil
}
