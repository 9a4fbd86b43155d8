package train

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ddprun/ddprun/shard"
)

// tokenEpochs are the epochs of a run whose micro-batches are cut by tokens, so that steps differ from one to the next. They are planned as far as they are
// wanted. Feed and loop use them at the same time.
type tokenEpochs struct {
	plans *shard.TokenPlans

	mu     sync.Mutex
	epochs []*shard.TokenPlan
	ends   []int64 // steps done at the end of each
}

// planned returns the end of an epoch after it is planned, with all before it.
func (e *tokenEpochs) planned(ctx context.Context, epoch int64) (int64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for int64(len(e.epochs)) <= epoch {
		t, err := e.plans.Epoch(ctx, int64(len(e.epochs)))
		if err != nil {
			return 0, err
		}
		if t.Steps() == 0 {
			t.Close()
			return 0, errors.New("data: some lane has no sample, so no step is full; unset dataloader_drop_last or take a smaller batch")
		}
		end := t.Steps()
		if n := len(e.ends); n > 0 {
			end += e.ends[n-1]
		}
		e.epochs, e.ends = append(e.epochs, t), append(e.ends, end)
	}
	return e.ends[epoch], nil
}

// reach plans epochs up to the one that the step after step steps lies in.
func (e *tokenEpochs) reach(ctx context.Context, step int64) error {
	for epoch := int64(0); ; epoch++ {
		if end, err := e.planned(ctx, epoch); err != nil || step < end {
			return err
		}
	}
}

// at splits steps done into whole epochs and steps of the next one, and returns the plan of that, nil where there is none yet.
func (e *tokenEpochs) at(step int64) (epoch, epochStep int64, t *shard.TokenPlan) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i, found := slices.BinarySearch(e.ends, step)
	if found {
		i++
	}
	if i > 0 {
		epochStep = e.ends[i-1]
	}
	if i < len(e.epochs) {
		t = e.epochs[i]
	}
	return int64(i), step - epochStep, t
}

// ended tells whether an epoch ends after step steps.
func (e *tokenEpochs) ended(step int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, found := slices.BinarySearch(e.ends, step)
	return found
}

func (e *tokenEpochs) close() {
	for _, t := range e.epochs {
		t.Close() // it is a mapping that was read
	}
}

// steps are those of an epoch, [first, end).
func (p *plan) steps(ctx context.Context, epoch int64) (first, end int64, err error) {
	if p.tokens == nil {
		return epoch * p.stepsPerEpoch, (epoch + 1) * p.stepsPerEpoch, nil
	}
	if epoch > 0 {
		if first, err = p.tokens.planned(ctx, epoch-1); err != nil {
			return 0, 0, err
		}
	}
	end, err = p.tokens.planned(ctx, epoch)
	return first, end, err
}

// planDigest names the boundaries of the epoch in which the last of step steps lay; empty where micro-batches are counted in samples.
func (p *plan) planDigest(step int64) string {
	if p.tokens == nil || step == 0 {
		return ""
	}
	_, _, t := p.tokens.at(step - 1)
	return t.Digest()
}

// checkPlan compares the boundaries with those that a checkpoint was made with.
func (p *plan) checkPlan(ctx context.Context, start beginning) error {
	if start.checkpoint == nil || p.tokens == nil || start.step == 0 {
		return nil
	}
	if err := p.tokens.reach(ctx, start.step-1); err != nil {
		return err
	}
	if want, got := start.checkpoint.State.PlanDigest, p.planDigest(start.step); want != got {
		return fmt.Errorf("cannot go on from %s: its micro-batches had other boundaries (plan %.16s then, %.16s now); "+
			"continue with the ddprun that wrote it", start.checkpoint.Path, want, got)
	}
	return nil
}
