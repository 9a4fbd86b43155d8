package train

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// mapStore is the store of ranks in one process, as far as begin needs it.
type mapStore struct {
	mu     sync.Mutex
	values map[string][]byte
}

func (m *mapStore) Set(key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[key] = value
	return nil
}

func (m *mapStore) Get(key string, timeout time.Duration) ([]byte, error) {
	for limit := time.Now().Add(min(timeout, 10*time.Second)); time.Now().Before(limit); time.Sleep(time.Millisecond) {
		m.mu.Lock()
		value, found := m.values[key]
		m.mu.Unlock()
		if found {
			return value, nil
		}
	}
	return nil, errors.New("timeout")
}

func (m *mapStore) Add(string, int64) (int64, error)  { panic("begin adds nothing") }
func (m *mapStore) Delete(string) (bool, error)       { panic("begin deletes nothing") }
func (m *mapStore) Check(keys []string) (bool, error) { panic("begin checks nothing") }

// beginAll lets ranks begin together, and returns where they do and what rank 0 said.
func beginAll(t *testing.T, base *Job, ranks int) ([]beginning, []error, string) {
	t.Helper()
	store := &mapStore{values: map[string][]byte{}}
	var said bytes.Buffer
	starts, errs := make([]beginning, ranks), make([]error, ranks)
	var group sync.WaitGroup
	for r := range ranks {
		job := *base
		job.Rank, job.World, job.Store = r, ranks, store
		if r == 0 {
			job.Log = zerolog.New(&said)
		}
		group.Go(func() { starts[r], errs[r] = begin(context.Background(), &job) })
	}
	group.Wait()
	return starts, errs, said.String()
}

func TestBegin(t *testing.T) {
	c, job := finishedRun(t)
	c.MaxSteps, c.SaveSteps = 9, 3
	starts, errs, said := beginAll(t, job, 3)
	for rank, start := range starts {
		if errs[rank] != nil || start.step != 2 || start.lanes != 4 || start.checkpoint == nil {
			t.Errorf("rank %d begins at %+v, %v", rank, start, errs[rank])
		}
	}
	for _, want := range []string{"resuming", "checkpoint-2", `"key":"max_steps","then":"2","now":"9"`, "schedule is computed again", "save_steps",
		"ranks: 1 then, 3 now"} {
		if !strings.Contains(said, want) {
			t.Errorf("rank 0 does not say %s:\n%s", want, said)
		}
	}

	scrap := filepath.Join(c.OutputDir, ".ddprun", "save-g0-checkpoint-5")
	if err := os.Mkdir(scrap, 0o755); err != nil {
		t.Fatal(err)
	}
	c.Seed = 1
	_, errs, _ = beginAll(t, job, 2)
	for _, err := range errs {
		wantKind(t, err, ErrInput, "seed: 42 then, 1 now")
	}
	if _, err := os.Stat(scrap); err == nil {
		t.Error("what an interrupted save left is still there")
	}

	c.ResumeFromCheckpoint, c.OverwriteOutputDir = "none", true
	starts, errs, said = beginAll(t, job, 2)
	for rank, start := range starts {
		if errs[rank] != nil || start.step != 0 || start.checkpoint != nil || start.lanes != 4 {
			t.Errorf("rank %d begins at %+v, %v", rank, start, errs[rank])
		}
	}
	if found, _ := filepath.Glob(filepath.Join(c.OutputDir, "checkpoint-*")); len(found) > 0 || !strings.Contains(said, "deleting") {
		t.Errorf("%q are there, and rank 0 says %s", found, said)
	}
}

// Another rank than 0 whose rank 0 is gone waits no longer than ddp_timeout, and does not take itself for the cause.
func TestBeginWithoutRank0(t *testing.T) {
	c := settings(t, goldenModel, "ddp_timeout=1")
	job := newJob(t, c, 33)
	job.Rank, job.World, job.Store = 1, 2, &mapStore{values: map[string][]byte{}}
	_, err := begin(context.Background(), job)
	wantKind(t, err, ErrPeer, "rank 0")
}
