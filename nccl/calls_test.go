package nccl

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"
)

// values of a type that are exact in it, and how to read them.
type number interface {
	~int8 | ~uint8 | ~int32 | ~uint32 | ~int64 | ~uint64 | ~float32 | ~float64
}

// half and brain are 16-bit floats by their bits; small whole numbers and halves are exact in both.
type (
	half  uint16
	brain uint16
)

func toBrain(f float64) brain    { return brain(math.Float32bits(float32(f)) >> 16) }
func (b brain) float64() float64 { return float64(math.Float32frombits(uint32(b) << 16)) }
func (h half) float64() float64 {
	exp, frac := int(h>>10&31), float64(h&0x3ff)
	f := math.Ldexp(1+frac/1024, exp-15)
	if exp == 0 {
		f = math.Ldexp(frac, -24)
	}
	if h&0x8000 != 0 {
		f = -f
	}
	return f
}
func toHalf(f float64) half {
	if f == 0 {
		return 0
	}
	frac, exp := math.Frexp(math.Abs(f))
	h := half(exp+14)<<10 | half((frac*2-1)*1024)
	if f < 0 {
		h |= 0x8000
	}
	return h
}

// elements reads and writes a buffer of any type as float64s.
type elements struct {
	get func(i int) float64
	set func(i int, v float64)
}

func of[T any](p *peer, n int, from func(float64) T, to func(T) float64) (elements, uintptr) {
	v, at := buffer[T](p, n)
	return elements{func(i int) float64 { return to(v[i]) }, func(i int, f float64) { v[i] = from(f) }}, at
}

func plain[T number](p *peer, n int) (elements, uintptr) {
	return of(p, n, func(f float64) T { return T(f) }, func(v T) float64 { return float64(v) })
}

func typed(p *peer, t DataType, n int) (elements, uintptr) {
	switch t {
	case Int8:
		return plain[int8](p, n)
	case Uint8:
		return plain[uint8](p, n)
	case Int32:
		return plain[int32](p, n)
	case Uint32:
		return plain[uint32](p, n)
	case Int64:
		return plain[int64](p, n)
	case Uint64:
		return plain[uint64](p, n)
	case Float32:
		return plain[float32](p, n)
	case Float64:
		return plain[float64](p, n)
	case Float16:
		return of(p, n, toHalf, half.float64)
	}
	return of(p, n, toBrain, brain.float64)
}

var allTypes = []DataType{Int8, Uint8, Int32, Uint32, Int64, Uint64, Float16, Float32, Float64, Bfloat16}

// mine is what rank r has at i: small whole numbers from 1 to 4.
func mine(r, i int) float64 { return float64((i+r)%4 + 1) }

// reduced is what the ranks' elements at i become.
func reduced(op RedOp, size, i int) float64 {
	acc := mine(0, i)
	for r := 1; r < size; r++ {
		switch v := mine(r, i); op {
		case Sum, Avg:
			acc += v
		case Prod:
			acc *= v
		case Max:
			acc = max(acc, v)
		case Min:
			acc = min(acc, v)
		}
	}
	return acc
}

// every runs each collective with a type, over more than one chunk of the largest.
func (p *peer) every(t DataType) error {
	const n = 70_001
	in, inAt := typed(p, t, n*p.size)
	out, outAt := typed(p, t, n*p.size)
	s := Stream(p.stream)
	fill := func() {
		for i := range n * p.size {
			in.set(i, mine(p.rank, i))
			out.set(i, 0)
		}
	}
	compare := func(what string, n int, want func(i int) float64) {
		for i := range n {
			w := want(i)
			got := out.get(i)
			if got != w && math.Abs(got-w) > 0.01*math.Abs(w) { // an average may be rounded
				panic(fmt.Sprintf("rank %d of %d, type %d: %s: element %d is %v, want %v", p.rank, p.size, t, what, i, got, w))
			}
		}
	}
	whole := t != Float16 && t != Bfloat16 && t != Float32 && t != Float64
	for _, op := range []RedOp{Sum, Prod, Max, Min, Avg} {
		if whole && t.Size() == 1 && op == Prod && p.size > 3 {
			continue // 4 x 3 x 2 x 1 fits, but other orders of it need not
		}
		want := func(i int) float64 {
			v := reduced(op, p.size, i)
			if op == Avg {
				v /= float64(p.size)
				if whole {
					v = math.Trunc(v)
				}
			}
			return v
		}
		fill()
		p.do(p.comm.AllReduce(inAt, outAt, n, t, op, s))
		compare(fmt.Sprint("all-reduce ", op), n, want)
		fill()
		p.do(p.comm.Reduce(inAt, outAt, n, t, op, p.size-1, s))
		if p.rank == p.size-1 {
			compare(fmt.Sprint("reduce ", op), n, want)
		} else {
			compare("reduce elsewhere", n, func(int) float64 { return 0 })
		}
		fill()
		p.do(p.comm.ReduceScatter(inAt, outAt, n, t, op, s))
		compare(fmt.Sprint("reduce-scatter ", op), n, func(i int) float64 { return want(p.rank*n + i) })
	}
	fill()
	p.do(p.comm.Broadcast(inAt, outAt, n, t, p.size-1, s))
	compare("broadcast", n, func(i int) float64 { return mine(p.size-1, i) })
	fill()
	p.do(p.comm.AllGather(inAt, outAt, n, t, s))
	compare("all-gather", n*p.size, func(i int) float64 { return mine(i/n, i%n) })
	fill()
	size := uintptr(n * t.Size())
	// In place: the rank's part of the gathered, and of the scattered.
	for i := range n {
		out.set(p.rank*n+i, mine(p.rank, i))
	}
	p.do(p.comm.AllGather(outAt+uintptr(p.rank)*size, outAt, n, t, s))
	compare("all-gather in place", n*p.size, func(i int) float64 { return mine(i/n, i%n) })
	// Each to its right neighbour, in one group; the thread keeps the group.
	fill()
	runtime.LockOSThread()
	check(p.lib.GroupStart())
	check(p.comm.Send(inAt, n, t, (p.rank+1)%p.size, s))
	check(p.comm.Recv(outAt, n, t, (p.rank+p.size-1)%p.size, s))
	err := p.lib.GroupEnd()
	runtime.UnlockOSThread()
	p.do(err)
	compare("send and receive", n, func(i int) float64 { return mine((p.rank+p.size-1)%p.size, i) })
	check(p.cuda.Free(inAt))
	return p.cuda.Free(outAt)
}

func init() {
	roles["every"] = func() error {
		p := fromEnvironment()
		for _, t := range allTypes {
			if err := p.every(t); err != nil {
				return err
			}
		}
		p.close()
		return nil
	}
	roles["rest"] = func() error {
		p := fromEnvironment()
		v, at := buffer[float32](p, 4)
		// Each rank multiplies by a scalar of its own.
		op, err := p.comm.NewPreMulSum(float64(p.rank+1), Float32)
		check(err)
		for i := range v {
			v[i] = 2
		}
		p.do(p.comm.AllReduce(at, at, 4, Float32, op, Stream(p.stream)))
		check(p.comm.DestroyRedOp(op))
		if want := float32(p.size * (p.size + 1)); v[3] != want {
			return fmt.Errorf("PreMulSum: %v, want %v", v[3], want)
		}
		if err := p.comm.AllReduce(at, at, 4, Float32, op, Stream(p.stream)); !errors.Is(err, ErrArgument) {
			return fmt.Errorf("an operator that was destroyed: %v", err)
		}
		if err := p.comm.Broadcast(at, at, 4, Float32, p.size, Stream(p.stream)); !errors.Is(err, ErrArgument) || !strings.Contains(err.Error(), "invalid root") {
			return fmt.Errorf("a root that is not there: %v", err)
		}
		// Even and odd ranks apart, in reverse order; the last rank alone stays out.
		color := p.rank % 2
		if p.rank == p.size-1 && p.size > 1 {
			color = -1
		}
		child, err := p.comm.Split(color, -p.rank, Config{SplitShare: true}, patience)
		check(err)
		if (child == nil) != (color < 0) {
			return fmt.Errorf("split: %v for color %d", child, color)
		}
		if child != nil {
			members, sum, before := 0, float32(0), 0
			for r := range p.size {
				if r%2 == color && (r != p.size-1 || p.size == 1) {
					members++
					sum += float32(r)
					if r > p.rank {
						before++
					}
				}
			}
			if child.Rank() != before || child.Size() != members {
				return fmt.Errorf("split: rank %d of %d, want %d of %d", child.Rank(), child.Size(), before, members)
			}
			v[0] = float32(p.rank)
			q := *p
			q.comm = child
			q.do(child.AllReduce(at, at, 1, Float32, Sum, Stream(p.stream)))
			if v[0] != sum {
				return fmt.Errorf("split: sum %v, want %v", v[0], sum)
			}
			check(child.Abort())
			if err := child.AllReduce(at, at, 1, Float32, Sum, Stream(p.stream)); err != ErrClosed {
				return fmt.Errorf("after an abort: %v", err)
			}
		}
		r, err := p.comm.Register(at, 16)
		check(err)
		check(p.comm.Deregister(r))
		m, err := p.lib.MemAlloc(1 << 20)
		check(err)
		*(*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&m))) = 1
		check(p.lib.MemFree(m))
		check(p.cuda.Free(at))
		p.close()
		return nil
	}
}

func TestCalls(t *testing.T) {
	for _, name := range []string{"every", "rest"} {
		for size := 1; size <= 4; size++ {
			if name == "every" && size%2 == 0 && os.Getenv("DDPRUN_TEST_ALL") == "" {
				continue
			}
			said, well := ranks(t, name, size)
			for r := range well {
				if !well[r] {
					t.Errorf("%s: rank %d of %d: %s", name, r, size, said[r])
				}
			}
		}
	}
}
