package train

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/ddprun/ddprun/ddp"
)

// got is what a rank's feed gave in a step.
type got struct {
	ids     [][]int64 // a lane each
	classes [][]int64 // of its pairs
	targets [][]int64
	counts  []float64
	tokens  int64
}

// feeds runs the feeds of ranks through steps [from, to) and returns what each lane got, by step.
func feeds(t *testing.T, objective string, ranks int, from, to int64) []got {
	t.Helper()
	c := settings(t, goldenModel, "objective="+objective, "global_batch_size=8", "max_steps=12")
	base := newJob(t, c, 33)
	p, err := newPlan(c, 33, 4)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]got, to-from)
	var running []*feed
	for rank, group := range ddp.NewLocal(ranks, nil) {
		job := *base
		job.Rank, job.World = rank, ranks
		running = append(running, startFeed(context.Background(), &job, p, group, from))
	}
	for step := range all {
		for _, f := range running {
			in, _, err := f.next(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if in.step != from+int64(step) || in.stop {
				t.Fatalf("step %d, stop %v; want step %d", in.step, in.stop, from+int64(step))
			}
			for _, b := range in.batches {
				all[step].ids = append(all[step].ids, append([]int64{}, b.IDs...))
				all[step].classes = append(all[step].classes, append([]int64{}, b.PairLabels...))
				all[step].targets = append(all[step].targets, append([]int64{}, b.Targets...))
			}
			all[step].counts, all[step].tokens = in.counts, in.tokens
			f.release(in)
		}
	}
	for _, f := range running {
		f.group.Abort()
	}
	for _, f := range running {
		f.close()
	}
	return all
}

// Lanes get the same micro-batches and steps the same counts at any number of ranks, from any step on; the counts are those of all
// lanes, and lanes without samples in an epoch's last step are empty.
func TestFeedsOfAnyNumberOfRanks(t *testing.T) {
	for _, objective := range []string{"mlm", "nsp", "sop", "mlm+nsp", "reconstruction", "span_corruption"} {
		t.Run(objective, func(t *testing.T) { feedsOfAnyNumberOfRanks(t, objective) })
	}
}

func feedsOfAnyNumberOfRanks(t *testing.T, objective string) {
	want := feeds(t, objective, 1, 0, 12)
	for _, ranks := range []int{2, 3, 4} {
		if !reflect.DeepEqual(feeds(t, objective, ranks, 0, 12), want) {
			t.Errorf("%d ranks get other micro-batches than one", ranks)
		}
	}
	if !reflect.DeepEqual(feeds(t, objective, 2, 7, 12), want[7:]) {
		t.Error("from step 7 on the micro-batches are others")
	}
	terms := 1
	if objective == "mlm+nsp" {
		terms = 2
	}
	for step, g := range want {
		tokens, empty := int64(0), 0
		for i, ids := range g.ids {
			tokens += int64(len(ids) + len(g.targets[i]))
			if len(ids) == 0 {
				empty++
			}
		}
		if wantEmpty := map[bool]int{true: 3}[step%5 == 4]; empty != wantEmpty || tokens != g.tokens || len(g.counts) != terms || g.counts[0] < 1 || g.counts[0] > float64(tokens) {
			t.Errorf("step %d: %d empty lanes, %d tokens, told %d tokens, counts %v", step, empty, tokens, g.tokens, g.counts)
		}
	}
	if reflect.DeepEqual(want[0].ids, want[5].ids) {
		t.Error("two epochs have the same order and masks")
	}
}

// One rank is asked to stop: all are told so at the same step.
func TestFeedsStopTogether(t *testing.T) {
	c := settings(t, goldenModel, "max_steps=100")
	base := newJob(t, c, 33)
	p, err := newPlan(c, 33, 2)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var running []*feed
	for rank, group := range ddp.NewLocal(2, nil) {
		job := *base
		job.Rank, job.World = rank, 2
		if rank == 1 {
			job.Stop = stop
		}
		running = append(running, startFeed(context.Background(), &job, p, group, 0))
	}
	var at [2]int64
	for step := 0; at[0] == 0; step++ {
		for rank, f := range running {
			in, _, err := f.next(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if in.stop {
				at[rank] = in.step
			}
			f.release(in)
		}
		if step == 3 {
			close(stop)
		}
	}
	if at[0] != at[1] || at[0] > 6 {
		t.Errorf("asked after step 4, rank 0 stops before step %d, rank 1 before %d", at[0]+1, at[1]+1)
	}
	for _, f := range running {
		f.close()
	}
}

// A rank whose peer is lost gets an error of that kind, and its feed ends.
func TestFeedOfALostPeer(t *testing.T) {
	c := settings(t, goldenModel, "max_steps=100")
	job := newJob(t, c, 33)
	job.World = 2
	p, err := newPlan(c, 33, 2)
	if err != nil {
		t.Fatal(err)
	}
	groups := ddp.NewLocal(2, nil)
	f := startFeed(context.Background(), job, p, groups[0], 0)
	groups[1].Abort()
	_, _, err = f.next(context.Background())
	wantKind(t, err, ErrPeer)
	f.close()
}

// The end of the context ends the wait for a step.
func TestFeedIsNotWaitedForInVain(t *testing.T) {
	c := settings(t, goldenModel, "max_steps=100")
	job := newJob(t, c, 33)
	job.World = 2
	p, err := newPlan(c, 33, 2)
	if err != nil {
		t.Fatal(err)
	}
	groups := ddp.NewLocal(2, nil)
	f := startFeed(context.Background(), job, p, groups[0], 0)
	gone := errors.New("the agent is gone")
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(10*time.Millisecond, func() { cancel(gone) })
	if _, _, err := f.next(ctx); !errors.Is(err, gone) {
		t.Errorf("the error is %v", err)
	}
	groups[0].Abort()
	f.close()
}
