package ddp

import (
	"fmt"
	"time"

	"github.com/ddprun/ddprun/internal/torch"
)

// Reducer sums the gradients of all ranks, bucket by bucket, while backward goes on. A bucket is a range of the gradient buffer of
// whole parameters. Buckets leave in their order on every rank, as soon as they and those before them are full.
type Reducer struct {
	params  *Params
	group   Group
	watched []int          // the parameters that learn
	views   []torch.Tensor // of each bucket
	small   []torch.Tensor // what of each is sent in its place; none: the bucket itself
	hooks   *torch.Buckets
	ready   chan int // from the hooks; room for all buckets, so that a hook never blocks
	sent    chan sending
	started bool
	first   time.Time // when the first bucket was full, or was sent without being so
}

type sending struct {
	works []Work
	first time.Time
	err   error
}

// firstBucketBytes is small, so that communication starts early.
const firstBucketBytes = 1 << 20

// NewReducer returns a reducer with buckets of about bucketBytes, the first one of 1 MiB. The caller closes it before params.
func NewReducer(params *Params, group Group, bucketBytes int64) (*Reducer, error) {
	planned, ranges := planBuckets(params, bucketBytes)
	var watched []int
	var learning []torch.Tensor
	var bucketOf []int32
	for i, x := range params.list {
		if !x.Frozen {
			watched, learning, bucketOf = append(watched, i), append(learning, params.params[i]), append(bucketOf, planned[i])
		}
	}
	r := &Reducer{params: params, group: group, watched: watched, ready: make(chan int, len(ranges)+1), sent: make(chan sending, 1)}
	err := torch.Do(func(s *torch.Scope) error {
		for _, x := range ranges {
			r.views = append(r.views, s.Move(s.View(params.grad, x.lo, x.hi-x.lo)))
		}
		return nil
	})
	if err == nil {
		r.hooks, err = torch.NewBuckets(learning, bucketOf, len(ranges), func(bucket int) { r.ready <- bucket })
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

type bucketRange struct{ lo, hi int64 } // elements of the gradient buffer

// planBuckets puts the parameters that learn into buckets in the order of the buffer, which is the reverse of the list's.
func planBuckets(p *Params, bucketBytes int64) (bucketOf []int32, ranges []bucketRange) {
	bucketOf = make([]int32, len(p.list))
	limit := int64(firstBucketBytes)
	var current bucketRange
	for i := len(p.list) - 1; i >= 0; i-- {
		if p.list[i].Frozen {
			continue
		}
		end := p.offsets[i] + (p.sizes[i]+align-1)/align*align
		if current.hi > current.lo && (end-current.lo)*4 > limit {
			ranges = append(ranges, current)
			current = bucketRange{current.hi, current.hi}
			limit = bucketBytes
		}
		current.hi = end
		bucketOf[i] = int32(len(ranges))
	}
	return bucketOf, append(ranges, current)
}

// Begin makes the reducer send buckets as they fill. Call it before the last backward pass of a step, or where a rank has none, and
// Finish after; or Close, where that pass has failed.
func (r *Reducer) Begin() {
	if r.started {
		panic("ddp: Begin twice")
	}
	r.started = true
	r.mark(markBegin)
	r.hooks.Arm()
	go r.send()
}

// Orders to send, beside the numbers of full buckets.
const (
	sendAll = -1 - iota
	sendNoMore
)

// send starts the all-reduces in bucket order; it ends when all are started, or after sendAll or sendNoMore.
func (r *Reducer) send() {
	full := make([]bool, len(r.views))
	var out sending
	for next, last := 0, false; next < len(r.views) && !last; {
		order := <-r.ready
		if next == 0 && out.first.IsZero() {
			out.first = time.Now()
		}
		if last = order < 0; !last {
			full[order] = true
		}
		for next < len(r.views) && out.err == nil && (full[next] || order == sendAll) {
			var w Work
			if w, out.err = r.allReduce(next); out.err == nil {
				out.works = append(out.works, w)
			}
			next++
		}
	}
	r.sent <- out
}

// recording is a group that keeps a record of its collectives.
type recording interface {
	allReduceBucket(t torch.Tensor, bucket int) (Work, error)
	mark(what string)
}

// Compress makes the reducer send gradients as d, BFloat16 or Float16, in half of the bytes: rounded before they are summed, and the sums are rounded too. The gradients
// that Finish leaves, and what follows, are float32 (PyTorch's bf16_compress_hook and fp16_compress_hook, without their division by the ranks).
// Call it before the first Begin. One rank sends nothing, so there nothing is rounded.
func (r *Reducer) Compress(d torch.DType) error {
	if r.group.Size() == 1 {
		return nil
	}
	return torch.Do(func(s *torch.Scope) error {
		for _, v := range r.views {
			r.small = append(r.small, s.Move(s.DeviceZeros(d, v.Numel())))
		}
		return nil
	})
}

// allReduce starts the all-reduce of a bucket.
func (r *Reducer) allReduce(bucket int) (Work, error) {
	t := r.views[bucket]
	if r.small != nil {
		t = r.small[bucket]
		if err := r.views[bucket].Convert(t); err != nil {
			return nil, err
		}
	}
	if g, ok := r.group.(recording); ok {
		return g.allReduceBucket(t, bucket)
	}
	return r.group.AllReduce(t)
}

// wait waits for the all-reduce of a bucket.
func (r *Reducer) wait(bucket int, w Work) error {
	if err := w.Wait(); err != nil || r.small == nil {
		return err
	}
	return r.small[bucket].Convert(r.views[bucket])
}

// Marks in the record of a group.
const (
	markBegin  = "last backward pass of a step"
	markFinish = "backward has ended"
)

func (r *Reducer) mark(what string) {
	if g, ok := r.group.(recording); ok {
		g.mark(what)
	}
}

// Finish sends what has not left yet, waits for all, and returns how long it waited. After it the gradients are sums over ranks.
func (r *Reducer) Finish() (waited time.Duration, err error) {
	if !r.started {
		panic("ddp: Finish without Begin")
	}
	start := time.Now()
	r.mark(markFinish)
	err = r.end(sendAll)
	if late := r.hooks.Late(); err == nil && late >= 0 {
		err = fmt.Errorf("the gradient of %s came after its bucket had left: a bug in the model", r.params.list[r.watched[late]].Name)
	}
	return time.Since(start), err
}

// FirstFull returns when the first bucket of the step that was finished last was full; where none was before Finish, when that was called.
func (r *Reducer) FirstFull() time.Time { return r.first }

// end gives send its last order and waits for all that it has started, so that nothing touches a buffer after this.
func (r *Reducer) end(order int) error {
	r.started = false
	r.hooks.Disarm()
	r.ready <- order
	out := <-r.sent
	r.first = out.first
	for len(r.ready) > 0 {
		<-r.ready
	}
	var err error
	note := func(e error) {
		if e != nil && err == nil {
			err = e
			r.group.Abort() // or the rest, and this rank's peers, would wait for each other
		}
	}
	note(out.err)
	for bucket, w := range out.works {
		note(r.wait(bucket, w))
	}
	return err
}

// Close releases the reducer. A step that was begun and not finished is given up: the group is aborted.
func (r *Reducer) Close() {
	if r.started {
		r.group.Abort()
		_ = r.end(sendNoMore) // what failed here failed because of the abort
	}
	if r.hooks != nil {
		r.hooks.Close()
	}
	for _, v := range append(r.views, r.small...) {
		v.Free()
	}
	r.views, r.small = nil, nil
}
