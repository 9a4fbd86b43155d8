package shard

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// TokenPlanConfig says how micro-batches are cut by tokens.
type TokenPlanConfig struct {
	Dir    string // keeps the plans, made if need be
	Budget int    // most tokens in a micro-batch
	// Length is the number of tokens that a sample of so many text tokens has with those that its objective adds; it grows with them.
	Length  func(text int) int
	Waiting func() // if set, called before waiting for another process that plans
}

// TokenPlans cuts the lanes of an order into micro-batches by tokens: a micro-batch takes a lane's samples, in their order, while they fit. The boundaries of an epoch are
// planned once, from the lengths in the sample indices, and kept in a file.
type TokenPlans struct {
	data  *Dataset
	order OrderConfig
	cfg   TokenPlanConfig
	rule  [sha256.Size]byte // of everything that the boundaries depend on, but for the epoch
}

// TokenPlan is the boundaries of one epoch, mapped.
type TokenPlan struct {
	path string
	data []byte
	h    planHeader
}

// NewTokenPlans checks that every sample fits into the budget. BatchSize of the order is not used.
func NewTokenPlans(d *Dataset, order OrderConfig, cfg TokenPlanConfig) (*TokenPlans, error) {
	order.Samples, order.BatchSize = d.Len(), 1
	longest, ref, err := d.longest()
	if err != nil {
		return nil, err
	}
	if n := cfg.Length(longest); n > cfg.Budget {
		return nil, fmt.Errorf("shard: sample %d of stream %s has %d tokens with its special ones, more than the %d that a micro-batch may have; "+
			"raise per_device_train_tokens or lower max_seq_length", ref.Sample, d.streams[ref.Stream].Name, n, cfg.Budget)
	}
	lengths := make([]int, longest+1)
	for n := range lengths {
		lengths[n] = cfg.Length(n)
	}
	h := sha256.New()
	// Encoding strings and numbers into a hash cannot fail.
	_ = json.NewEncoder(h).Encode([]any{"ddprun plan", planVersion, d.Digest(), d.seed, order, cfg.Budget, lengths})
	return &TokenPlans{data: d, order: order, cfg: cfg, rule: [sha256.Size]byte(h.Sum(nil))}, nil
}

// longest returns the most text tokens of a sample, and the first sample that has them.
func (d *Dataset) longest() (tokens int, at Ref, err error) {
	for i := range d.streams {
		for sample := range d.streams[i].n {
			n, err := d.streams[i].Samples.Tokens(sample)
			if err != nil {
				return 0, at, err
			}
			if n > tokens {
				tokens, at = n, Ref{i, sample}
			}
		}
	}
	return tokens, at, nil
}

// Epoch returns the plan of an epoch, which it makes where there is none yet; the caller closes it. One process works, the others wait.
func (p *TokenPlans) Epoch(ctx context.Context, epoch int64) (*TokenPlan, error) {
	key := sha256.Sum256(le.AppendUint64(p.rule[:], uint64(epoch)))
	path := filepath.Join(p.cfg.Dir, fmt.Sprintf("plan-%x.idx", key[:16]))
	if t, err := openPlan(path, key); err == nil {
		return t, nil
	}
	if err := os.MkdirAll(p.cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("shard: %w", err)
	}
	unlock, err := lockDir(ctx, p.cfg.Dir, p.cfg.Waiting)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if t, err := openPlan(path, key); err == nil { // another process made it while this one waited
		return t, nil
	}
	if err := cleanTemporary(p.cfg.Dir); err != nil {
		return nil, err
	}
	lanes, err := p.cut(ctx, epoch)
	if err != nil {
		return nil, err
	}
	if err := writePlan(path, key, lanes, p.order.DropLast); err != nil {
		return nil, err
	}
	return openPlan(path, key)
}

// cut returns the ends of each lane's micro-batches, counted in the lane's samples.
func (p *TokenPlans) cut(ctx context.Context, epoch int64) ([][]uint64, error) {
	order := p.order
	order.DropLast = false
	o, err := NewOrder(order)
	if err != nil {
		return nil, err
	}
	lanes := make([][]uint64, p.order.Lanes)
	errs := make([]error, min(runtime.GOMAXPROCS(0), len(lanes)))
	var next atomic.Int64
	var workers sync.WaitGroup
	for w := range errs {
		workers.Go(func() {
			for errs[w] == nil {
				lane := int(next.Add(1)) - 1
				if lane >= len(lanes) {
					return
				}
				lanes[lane], errs[w] = p.cutLane(ctx, o, epoch, lane)
			}
		})
	}
	workers.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return lanes, nil
}

func (p *TokenPlans) cutLane(ctx context.Context, o *Order, epoch int64, lane int) (ends []uint64, err error) {
	const chunk = 4096
	var numbers []int64
	used, length := 0, o.LaneLen(lane)
	for from := int64(0); from < length; from += chunk {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		numbers = o.Lane(epoch, lane, from, min(from+chunk, length), numbers)
		for i, number := range numbers {
			text, err := p.data.Tokens(epoch, number)
			if err != nil {
				return nil, err
			}
			n := p.cfg.Length(text)
			if used > 0 && used+n > p.cfg.Budget {
				ends = append(ends, uint64(from)+uint64(i))
				used = 0
			}
			used += n
		}
	}
	if length > 0 {
		ends = append(ends, uint64(length))
	}
	return ends, nil
}

// Steps is the number of steps of the epoch: the micro-batches of the longest lane, or with DropLast those of the shortest.
func (t *TokenPlan) Steps() int64 { return t.h.steps() }

// Digest names the boundaries, in hexadecimal.
func (t *TokenPlan) Digest() string { return fmt.Sprintf("%x", t.h.checksum()) }

// Bounds returns which of a lane's samples, counted from its start, its micro-batch of a step holds; none where the lane is at its end.
func (t *TokenPlan) Bounds(lane int, step int64) (from, to int64, err error) {
	if lane < 0 || lane >= int(t.h.lanes()) || step < 0 || step >= t.Steps() {
		panic(fmt.Sprintf("shard: no micro-batch at step %d of %d, lane %d of %d", step, t.Steps(), lane, t.h.lanes()))
	}
	defer faultError(t.path, debug.SetPanicOnFault(true), &err)
	first, end := t.u64(int64(lane)), t.u64(int64(lane)+1)
	ends := t.h.lanes() + 1
	at := first + step
	if at >= end {
		return 0, 0, nil
	}
	if step > 0 {
		from = t.u64(ends + at - 1)
	}
	return from, t.u64(ends + at), nil
}

func (t *TokenPlan) u64(i int64) int64 { return int64(le.Uint64(t.data[planHeaderBytes+8*i:])) }

// Close unmaps the plan. Nothing may be reading it.
func (t *TokenPlan) Close() error {
	if t.data == nil {
		return nil
	}
	data := t.data
	t.data, t.h = nil, nil
	return unix.Munmap(data)
}
