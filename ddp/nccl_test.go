package ddp

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddprun/ddprun/internal/torch"
	"github.com/ddprun/ddprun/nccl/loopback"
)

// The ranks of these tests are processes (gloo_test.go) on the loopback library, the test double of NCCL.
const (
	envDump   = "DDP_TEST_DUMP"   // folder of the records
	envAbsent = "DDP_TEST_ABSENT" // the rank that does not come
)

// ncclTimeout is short in the tests that want it to pass.
const ncclTimeout = 2 * time.Second

// slack is what a busy machine may add.
const slack = 10 * time.Second

// playNCCL plays a scene on a group of NCCL.
func playNCCL(scene string, rank, size int, store torch.Store, report *glooReport) error {
	if os.Getenv(envAbsent) == fmt.Sprint(rank) {
		return nil
	}
	if os.Getenv(envAbsent) == "" {
		if err := allStarted(rank, size, store); err != nil {
			return err
		}
	}
	config := NCCLConfig{Timeout: ncclTimeout}
	if dir := os.Getenv(envDump); dir != "" {
		config.Dump = filepath.Join(dir, fmt.Sprint("rank-", rank, ".json"))
	}
	start := time.Now()
	g, err := NewNCCL(store, rank, size, config)
	report.Seconds = time.Since(start).Seconds()
	if err != nil {
		return err
	}
	defer g.Close()
	start = time.Now()
	play, ok := ncclScenes[scene]
	if !ok {
		play = scenes[scene]
	}
	if err = play(g, report); err != nil {
		report.Seconds = time.Since(start).Seconds()
		time.Sleep(200 * time.Millisecond) // a process that ends at once would look dead to a peer that is still asking
		if failed := Failed(g); failed == nil || failed.Error() != err.Error() {
			err = fmt.Errorf("%w, but Failed says %v", err, failed)
		}
		return err
	}
	return Failed(g)
}

// allStarted waits for the processes of all ranks, whose start on a busy machine takes longer than ncclTimeout.
func allStarted(rank, size int, store torch.Store) error {
	if err := store.Set(fmt.Sprint("started/", rank), []byte{1}); err != nil {
		return err
	}
	for other := range size {
		if _, err := store.Get(fmt.Sprint("started/", other), time.Minute); err != nil {
			return err
		}
	}
	return nil
}

// ncclScenes are what only this group does.
var ncclScenes = map[string]func(g Group, report *glooReport) error{
	"on a stream": onStream,
	"overlap":     overlap,
	"mismatch": func(g Group, _ *glooReport) error {
		return SumFloat64s(g, make([]float64, 3+g.Rank()))
	},
	"four sums": func(g Group, _ *glooReport) error {
		for range 4 {
			if err := SumFloat64s(g, make([]float64, 1000)); err != nil {
				return err
			}
		}
		return nil
	},
	"rank 1 does not come": func(g Group, _ *glooReport) error {
		if err := Barrier(g); err != nil {
			return err
		}
		if g.Rank() == 1 {
			<-g.(*ncclGroup).failed // its watchdog is awake
			return g.(*ncclGroup).err
		}
		return SumFloat64s(g, make([]float64, 1000))
	},
}

// onStream is the way of tensors on a GPU: what the compute stream is given after Wait comes after the collective, and the caller does not
// wait. The loopback library's streams stand for a GPU's.
func onStream(g Group, _ *glooReport) error {
	n := g.(*ncclGroup)
	compute, err := n.cuda.NewStream(false)
	if err != nil {
		return err
	}
	n.host, n.compute = false, compute
	return torch.Do(func(s *torch.Scope) error {
		const size = 1 << 16
		source, sum, copied := s.Zeros(torch.Float32, size), s.Zeros(torch.Float32, size), s.Zeros(torch.Float32, size)
		for i := range source.Float32s() {
			source.Float32s()[i] = float32(g.Rank() + 1)
		}
		copyOn := func(to, from torch.Tensor) error {
			return n.cuda.CopyAsync(to.Address(), from.Address(), size*4, compute)
		}
		if err := copyOn(sum, source); err != nil { // what backward would do
			return err
		}
		w, err := g.AllReduce(sum)
		if err != nil {
			return err
		}
		if err := w.Wait(); err != nil {
			return err
		}
		if err := copyOn(copied, sum); err != nil { // what the optimizer would do
			return err
		}
		if err := n.cuda.StreamSynchronize(compute); err != nil {
			return err
		}
		want := float32(g.Size() * (g.Size() + 1) / 2)
		if i := slices.IndexFunc(copied.Float32s(), func(x float32) bool { return x != want }); i >= 0 {
			return fmt.Errorf("element %d is %v, want %v", i, copied.Float32s()[i], want)
		}
		n.host = true
		return n.cuda.DestroyStream(compute)
	})
}

// overlap runs a step of eight layers of 1 MiB, in as many buckets, and counts, in the record, the all-reduces that started before backward ended.
func overlap(g Group, report *glooReport) error {
	const layers, width, tokens = 8, 512, 128
	var list []Param
	for i := range layers {
		list = append(list, Param{Name: fmt.Sprint("layer", i), Shape: []int64{width, width}})
	}
	p, err := NewParams(list, g)
	if err != nil {
		return err
	}
	defer p.Close()
	for _, s := range p.States() {
		fillNormal(s.Value, 1)
	}
	r, err := NewReducer(p, g, 1<<20)
	if err != nil {
		return err
	}
	defer r.Close()
	err = torch.Do(func(s *torch.Scope) error {
		x := s.Zeros(torch.Float32, tokens, width)
		fillNormal(x.Float32s(), uint64(g.Rank()))
		for _, w := range p.Tensors() {
			x = s.Tanh(s.Linear(x, w, torch.Tensor{}))
		}
		r.Begin()
		s.LinearCrossEntropy(x, p.Tensors()[0], torch.Tensor{}, s.FromInt64s(make([]int64, tokens)), 0).Backward()
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := r.Finish(); err != nil {
		return err
	}
	record := g.(*ncclGroup).record.report(g.Rank(), nil, false)
	ended := int64(0)
	for _, m := range record.Marks {
		if m.What == markFinish {
			ended = m.At
		}
	}
	for _, e := range record.Entries {
		if e.Bucket != noBucket && e.Issued < ended {
			report.Early++
		}
	}
	return nil
}

// onLoopback lists the variables of ranks that use the loopback library, and more.
func onLoopback(t *testing.T, more ...string) []string {
	t.Helper()
	library, err := loopback.Build()
	if err != nil {
		t.Fatal(err)
	}
	return append(append(loopback.Environment(library), envGroup+"=nccl"), more...)
}

func TestNCCLCollectives(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scene string
		size  int
	}{{"collectives", 1}, {"collectives", 2}, {"collectives", 3}, {"train", 4}, {"bf16", 2}, {"fp16", 2}, {"on a stream", 3}} {
		for rank, r := range playWith(t, onLoopback(t), c.scene, c.size, nil) {
			if r == nil || r.Error != "" {
				t.Errorf("%s, rank %d of %d: %+v", c.scene, rank, c.size, r)
			}
		}
	}
}

// Buckets leave while backward goes on: the record's times say so.
func TestNCCLOverlaps(t *testing.T) {
	t.Parallel()
	for rank, r := range playWith(t, onLoopback(t), "overlap", 2, nil) {
		if r == nil || r.Error != "" || r.Early == 0 {
			t.Errorf("rank %d: %+v", rank, r)
		}
	}
}

// Each fault is an error on every rank that is left, in the time-out and the grace, which says who and at which collective; and a dump that says the same.
func TestNCCLFaults(t *testing.T) {
	for name, c := range map[string]struct {
		scene, fault string
		dead         int
		said         []string
	}{
		"killed":        {"killed", "", 1, []string{"rank 1 is not answering", "collective 2, all-reduce of 65536 float64"}},
		"dies inside":   {"four sums", "die:rank=1,at=3", 1, []string{"rank 1 is not answering", "collective 3, all-reduce of 1000 float64"}},
		"error":         {"four sums", "error:rank=1,at=2,code=2", -1, []string{"rank 1: ", "ncclSystemError", "at collective 2"}},
		"hang":          {"four sums", "hang:rank=1,at=3", -1, []string{"did not end in time", "ranks 0, 1, 2 are stuck in collective 3, all-reduce of 1000 float64"}},
		"does not come": {"rank 1 does not come", "", -1, []string{"rank 1 has not come to collective 2, all-reduce of 1000 float64"}},
		"mismatch":      {"mismatch", "", -1, []string{"rank 1 does collective 1, all-reduce of 4 float64, another rank collective 1, all-reduce of 3 float64"}},
		"aborted":       {"aborted by rank 1", "", -1, []string{"rank 1: process group aborted, at collective 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for rank, r := range playWith(t, onLoopback(t, "LOOPBACK_FAULT="+c.fault, envDump+"="+dir), c.scene, 3, nil) {
				if rank == c.dead || name == "aborted" && rank == 1 {
					continue
				}
				if r == nil {
					t.Errorf("rank %d died", rank)
					continue
				}
				if limit := (ncclTimeout + grace + slack).Seconds(); r.Seconds > limit {
					t.Errorf("rank %d: %.1f s, want at most %.1f", rank, r.Seconds, limit)
				}
				var dump flightDump
				raw, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("rank-", rank, ".json")))
				if err == nil {
					err = json.Unmarshal(raw, &dump)
				}
				if err != nil || dump.Error != r.Error || len(dump.Ranks) < 2 || len(dump.Ranks[rank].Entries) == 0 {
					t.Errorf("rank %d: dump %+v, %v", rank, dump, err)
				}
				for _, s := range append(c.said, fmt.Sprintf("rank %d of 3: ", rank)) {
					if !strings.Contains(r.Error, s) {
						t.Errorf("rank %d: %s\nlacks %s", rank, r.Error, s)
					}
				}
				t.Logf("rank %d: %.2f s: %s", rank, r.Seconds, r.Error)
			}
		})
	}
}

func TestNCCLMeetingFails(t *testing.T) {
	t.Parallel()
	for rank, r := range playWith(t, onLoopback(t, "LOOPBACK_FAULT=init:rank=1"), "collectives", 2, nil) {
		if r == nil || !strings.Contains(r.Error, fmt.Sprintf("rank %d of 2: cannot form the NCCL communicator: all ranks have come", rank)) ||
			r.Seconds > (ncclTimeout+slack).Seconds() {
			t.Errorf("rank %d: %+v", rank, r)
		}
	}
	r := playWith(t, onLoopback(t, envAbsent+"=1"), "collectives", 2, nil)[0]
	if r == nil || !strings.Contains(r.Error, "rank 0 of 2: cannot form the NCCL communicator: rank 1 has not come") || r.Seconds > (ncclTimeout+slack).Seconds() {
		t.Errorf("rank 1 does not come: %+v", r)
	}
	r = playWith(t, onLoopback(t, envAbsent+"=0"), "collectives", 2, nil)[1]
	if r == nil || !strings.Contains(r.Error, "rank 1 of 2: cannot form the NCCL communicator: rank 0 did not come") || r.Seconds > (ncclTimeout+slack).Seconds() {
		t.Errorf("rank 0 does not come: %+v", r)
	}
}
