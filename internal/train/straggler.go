package train

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/rs/zerolog"

	"github.com/ddprun/ddprun/shard"
)

// A rank is slow if the others wait for it and its micro-batches take longer than theirs. Both must hold: a rank with more lanes is waited for though
// it is as fast, and work that lies beside the others' waiting costs them nothing. Shares of the time, over windows of many steps, since single steps
// differ by their samples.
const (
	slowExcess  = 0.15 // by how much the others' mean share of waiting is above the rank's own
	slowRatio   = 1.15 // a micro-batch's time over the median of the other ranks
	stillFactor = 0.5  // of a rank that is named: it stays so down to this part of what is beyond
	slowWindows = 3    // in a row until it is said, or taken back

	slowWindowSeconds = 10 // at least, and
	slowWindowSteps   = 50 // at least so many; but where steps are long
	slowWindowMost    = 300
)

// figures are what a rank has measured over some steps, in seconds.
type figures struct {
	elapsed, waited float64 // waited: for other ranks, of elapsed
	first           float64 // from a step's begin to its first full bucket
}

// figureCount is the number of figures in a vector of sums.
const figureCount = 3

func (f figures) put(to []float64)     { to[0], to[1], to[2] = f.elapsed, f.waited, f.first }
func figuresOf(from []float64) figures { return figures{from[0], from[1], from[2]} }
func (f figures) share() float64       { return f.waited / f.elapsed }
func (f figures) plus(x figures) figures {
	return figures{f.elapsed + x.elapsed, f.waited + x.waited, f.first + x.first}
}

// stragglers finds the slow rank of a run. Rank 0 has one.
type stragglers struct {
	lanes   []int // of each rank; one without any is not compared
	name    func(rank int) string
	log     zerolog.Logger
	seconds float64 // of a window, at least
	least   int64   // steps of a window, at least

	steps int64 // of the window so far
	sum   []figures

	slow    int // the rank that is named; -1: none
	suspect int // that will be, if the next windows say so too
	seen    int // windows that have said so
}

func newStragglers(lanes []int, name func(rank int) string, log zerolog.Logger) *stragglers {
	return &stragglers{lanes: lanes, name: name, log: log, seconds: slowWindowSeconds, least: slowWindowSteps, sum: make([]figures, len(lanes)), slow: -1, suspect: -1}
}

// add takes in what each rank has measured over some steps, and says it if a rank has become slow, or is no longer.
func (s *stragglers) add(steps int64, each []figures) {
	s.steps += steps
	for rank, f := range each {
		s.sum[rank] = s.sum[rank].plus(f)
	}
	if elapsed := s.sum[0].elapsed; elapsed < s.seconds || s.steps < s.least && elapsed < slowWindowMost {
		return
	}
	j := s.judge(s.sum)
	s.steps = 0
	clear(s.sum)
	slow := -1
	if part := s.part(j.rank); j.rank >= 0 && j.excess >= part*slowExcess && j.ratio >= 1+part*(slowRatio-1) {
		slow = j.rank
	}
	if slow != s.suspect {
		s.suspect, s.seen = slow, 0
	}
	if s.seen++; slow == s.slow || s.seen < slowWindows {
		return
	}
	if slow < 0 {
		s.log.Info().Int("slow_rank", s.slow).Msgf("%s is no longer slow", s.name(s.slow))
	} else {
		s.log.Warn().Int("slow_rank", slow).Msgf("%s is slow: a micro-batch takes it %.2g times as long as the others, which wait %s of the time, and it %s; %s",
			s.name(slow), j.ratio, percent(j.others), percent(j.others-j.excess), j.firstBuckets())
	}
	s.slow = slow
}

// part is the part of the thresholds that counts for a rank.
func (s *stragglers) part(rank int) float64 {
	if rank == s.slow {
		return stillFactor
	}
	return 1
}

// compareRanks says which rank is slow, if one is, from what each has measured, and adds to the metrics which one the others waited for most.
func (o *output) compareRanks(steps int64, sums []float64, entry map[string]any) {
	if o.slow == nil {
		return
	}
	each := make([]figures, o.r.job.World)
	most, first := 0.0, 0.0
	for rank := range each {
		each[rank] = figuresOf(sums[figureCount*rank:])
		most, first = max(most, each[rank].share()), first+each[rank].first
	}
	o.slow.add(steps, each)
	if rank := slowest(each, o.slow.lanes); rank >= 0 {
		maps.Copy(entry, map[string]any{"slowest_rank": rank, "least_wait_share": each[rank].share(), "most_wait_share": most,
			"first_bucket_seconds": first / float64(len(each)) / float64(steps)})
	}
	if o.slow.slow >= 0 {
		entry["slow_rank"] = o.slow.slow
	} else {
		o.r.job.tell(map[string]any{"slow_rank": -1})
	}
}

// judgement is how the rank that waits least stands beside the others.
type judgement struct {
	rank               int     // -1: nothing to compare
	others             float64 // their mean share of waiting
	excess             float64 // that, less the rank's own
	ratio              float64 // a micro-batch's time over the others' median
	first, othersFirst float64 // seconds to the first full bucket, summed over the steps
}

func (j judgement) firstBuckets() string {
	if j.othersFirst <= 0 {
		return "its gradients come later"
	}
	return fmt.Sprintf("its first gradients come after %.2g times their time", j.first/j.othersFirst)
}

func (s *stragglers) judge(each []figures) judgement {
	j := judgement{rank: slowest(each, s.lanes)}
	if j.rank < 0 {
		return j
	}
	var costs []float64
	cost := func(rank int) float64 { return (each[rank].elapsed - each[rank].waited) / float64(s.lanes[rank]) }
	n := 0.0
	for rank, f := range each {
		if rank != j.rank && s.lanes[rank] > 0 {
			costs = append(costs, cost(rank))
			j.others, j.othersFirst = j.others+f.share(), j.othersFirst+f.first
			n++
		}
	}
	if n == 0 {
		return judgement{rank: -1}
	}
	slices.Sort(costs)
	j.others, j.othersFirst, j.first = j.others/n, j.othersFirst/n, each[j.rank].first
	j.excess = j.others - each[j.rank].share()
	j.ratio = cost(j.rank) / costs[len(costs)/2]
	return j
}

// slowest is the rank that waits least, of those with lanes; -1: there is none.
func slowest(each []figures, lanes []int) int {
	least := -1
	for rank, f := range each {
		if lanes[rank] > 0 && f.elapsed > 0 && (least < 0 || cmp.Less(f.share(), each[least].share())) {
			least = rank
		}
	}
	return least
}

// lanesOfRanks is the number of lanes of each rank.
func lanesOfRanks(lanes, world int) []int {
	counts := make([]int, world)
	for rank := range counts {
		first, end := shard.AssignLanes(lanes, world, rank)
		counts[rank] = end - first
	}
	return counts
}

// rankName names a rank with its host, where that is known.
func (job *Job) rankName(rank int) string {
	for _, n := range job.Nodes {
		if rank >= n.FirstRank && rank < n.FirstRank+n.Ranks && n.Name != "" {
			return fmt.Sprintf("rank %d (%s)", rank, n.Name)
		}
	}
	return fmt.Sprintf("rank %d", rank)
}
