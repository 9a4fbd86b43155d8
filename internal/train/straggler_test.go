package train

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/torch"
)

// ranksOf returns what ranks measure in 25 steps, given the time of a micro-batch on each: the slowest keeps the others waiting.
func ranksOf(lanes []int, batch ...float64) []figures {
	longest := 0.0
	for rank, b := range batch {
		longest = max(longest, b*float64(lanes[rank]))
	}
	each := make([]figures, len(batch))
	for rank, b := range batch {
		own := b * float64(lanes[rank])
		each[rank] = figures{elapsed: 25 * longest, waited: 25 * (longest - own), first: 25 * own / 2}
	}
	return each
}

func TestStragglers(t *testing.T) {
	even := []int{1, 1, 1}
	for name, c := range map[string]struct {
		lanes   []int
		windows [][]float64 // seconds a micro-batch
		want    string      // ranks that are said to be slow, or -1, in order
	}{
		"equal":                  {even, [][]float64{{1, 1, 1}, {1, 1, 1}, {1, 1, 1}}, ""},
		"a little slower":        {even, [][]float64{{1, 1.1, 1}, {1, 1.1, 1}, {1, 1.1, 1}}, ""},
		"slow":                   {even, [][]float64{{1, 2, 1}, {1, 2, 1}, {1, 2, 1}, {1, 2, 1}}, "1 "},
		"slow for a while":       {even, [][]float64{{1, 2, 1}, {1, 2, 1}, {1, 1, 1}, {1, 2, 1}, {1, 2, 1}}, ""},
		"slow by turns":          {even, [][]float64{{2, 1, 1}, {1, 2, 1}, {1, 1, 2}, {2, 1, 1}}, ""},
		"slow, then not":         {even, [][]float64{{1, 1, 2}, {1, 1, 2}, {1, 1, 2}, {1, 1, 1}, {1, 1, 2}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}}, "2 -1 "},
		"around the threshold":   {even, [][]float64{{1.3, 1, 1}, {1.3, 1, 1}, {1.3, 1, 1}, {1.15, 1, 1}, {1.15, 1, 1}, {1.15, 1, 1}, {1.3, 1, 1}}, "0 "},
		"another one":            {even, [][]float64{{3, 1, 1}, {3, 1, 1}, {3, 1, 1}, {3, 9, 1}, {3, 9, 1}, {3, 9, 1}}, "0 1 "},
		"more lanes, as fast":    {[]int{2, 1, 1}, [][]float64{{1, 1, 1}, {1, 1, 1}, {1, 1, 1}}, ""},
		"more lanes, and slow":   {[]int{2, 1, 1}, [][]float64{{2, 1, 1}, {2, 1, 1}, {2, 1, 1}}, "0 "},
		"slow, but not waited":   {[]int{3, 1, 1}, [][]float64{{1, 2, 1}, {1, 2, 1}, {1, 2, 1}}, ""},
		"one stands by":          {[]int{1, 1, 0}, [][]float64{{1, 2, 0}, {1, 2, 0}, {1, 2, 0}}, "1 "},
		"nobody to compare with": {[]int{1, 0, 0}, [][]float64{{1, 0, 0}, {1, 0, 0}, {1, 0, 0}}, ""},
	} {
		var log bytes.Buffer
		s := newStragglers(c.lanes, (&Job{}).rankName, zerolog.New(&log))
		said, slow := "", -1
		for _, w := range c.windows {
			for range 2 { // 25 steps each
				if s.add(25, ranksOf(c.lanes, w...)); s.slow != slow {
					slow = s.slow
					said += fmt.Sprint(slow, " ")
				}
			}
		}
		if said != c.want || strings.Count(log.String(), "\n") != strings.Count(said, " ") {
			t.Errorf("%s: named %q, want %q\n%s", name, said, c.want, log.String())
		}
	}
}

func TestEqualRanksGiveNoAlarm(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	even := []int{1, 1, 1, 1}
	s := newStragglers(even, (&Job{}).rankName, zerolog.Nop())
	for step := range 100000 { // each micro-batch takes between 0.2 and 1.8 s, as samples are short and long
		batch := make([]float64, len(even))
		for rank := range batch {
			batch[rank] = 0.2 + 1.6*random.Float64()
		}
		each := ranksOf(even, batch...)
		for rank, f := range each {
			each[rank] = figures{f.elapsed / 25, f.waited / 25, f.first / 25}
		}
		if s.add(1, each); s.slow >= 0 {
			t.Fatalf("rank %d is named after %d steps", s.slow, step)
		}
	}
}

func TestRankName(t *testing.T) {
	job := &Job{Nodes: []Node{{Name: "a", FirstRank: 0, Ranks: 2}, {Name: "b", FirstRank: 2, Ranks: 1}}}
	if got := job.rankName(1) + ", " + job.rankName(2) + ", " + job.rankName(3); got != "rank 1 (a), rank 2 (b), rank 3" {
		t.Error(got)
	}
}

// A rank that sleeps in each step is named, in the log and in the metrics; ranks that all sleep are not.
func TestSlowRankOfARun(t *testing.T) {
	for name, sleeps := range map[string][]time.Duration{"one": {0, 0, 20 * time.Millisecond}, "all": {20 * time.Millisecond, 20 * time.Millisecond, 20 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			c := settings(t, goldenModel, "max_steps=40", "logging_steps=4", "save_strategy=no")
			var log bytes.Buffer
			data, host := ddp.NewLocal(len(sleeps), nil), ddp.NewLocal(len(sleeps), nil)
			errs := make([]error, len(sleeps))
			if err := os.MkdirAll(c.OutputDir, 0o777); err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			for n, sleep := range sleeps {
				job := newJob(t, c, 300)
				job.Rank, job.World = n, len(sleeps)
				job.Nodes = []Node{{Name: "node7", Ranks: 3}}
				job.Beat = func(Phase, int64, int64) { time.Sleep(sleep) }
				if n == 0 {
					job.Log = zerolog.New(&log)
				}
				all.Go(func() { errs[n] = trainOn(t, job, data[n], host[n]) })
			}
			all.Wait()
			for rank, err := range errs {
				if err != nil {
					t.Fatalf("rank %d: %v", rank, err)
				}
			}
			said := strings.Count(log.String(), "rank 2 (node7) is slow: a micro-batch takes it")
			var last map[string]any
			lines := strings.Split(strings.TrimSpace(read(t, filepath.Join(c.OutputDir, "metrics.jsonl"))), "\n")
			if err := json.Unmarshal([]byte(lines[len(lines)-2]), &last); err != nil {
				t.Fatal(err)
			}
			if name == "one" && (said != 1 || last["slow_rank"] != 2.0 || last["slowest_rank"] != 2.0 || last["first_bucket_seconds"].(float64) <= 0) {
				t.Errorf("said %d times; the last record is %v\n%s", said, last, log.String())
			}
			if _, named := last["slow_rank"]; name == "all" && (named || strings.Contains(log.String(), "is slow")) {
				t.Errorf("%v\n%s", last, log.String())
			}
		})
	}
}

// trainOn is a rank's run on groups that are there, with windows of a few steps.
func trainOn(t *testing.T, job *Job, data, host ddp.Group) (err error) {
	defer func() {
		if err != nil { // the others wait for this rank
			data.Abort()
			host.Abort()
		}
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	torch.SetThreads(1)
	r := &rank{job: job, groups: groups{data: data, sums: data, host: host}}
	defer r.close()
	start := beginning{lanes: job.World}
	var p *plan
	p, err = job.newPlan(t.Context(), start.lanes)
	if err == nil {
		err = r.setUp(context.Background(), start)
	}
	if err != nil {
		return err
	}
	out, err := openOutput(t.Context(), r, p, start)
	if err != nil {
		return err
	}
	if out.slow != nil {
		out.slow.seconds, out.slow.least = 0.1, 4
	}
	_, err = r.loop(t.Context(), p, out, start)
	return err
}
