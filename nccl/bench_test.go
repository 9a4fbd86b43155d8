package nccl

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// inC returns what the calls cost from C, in nanoseconds.
func inC(b *testing.B) (async, allReduce float64) {
	program := filepath.Join(b.TempDir(), "bench")
	if out, err := exec.Command("cc", "-O2", "-o", program, "testdata/bench.c", "-ldl").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(program, os.Getenv("NCCL_LIBRARY"), strconv.Itoa(2000))
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	must(fmt.Sscan(string(out), &async, &allReduce))
	return async, allReduce
}

// BenchmarkCall measures what the binding adds to a call, "added-ns": the difference to a loop in C over the same function of the
// loopback library. All-reduces go into a group, which is the call without the launch. Of both it takes the best round, since
// the double's own threads disturb the others.
func BenchmarkCall(b *testing.B) {
	b.Setenv("LOOPBACK_LAUNCH_US", "-1") // launched within the call, so that no thread is made for each
	async, allReduce := inC(b)
	p := join(must(must(Open()).NewUniqueID()), 0, 1)
	check(p.comm.Await(patience))
	defer p.close()
	_, at := buffer[float32](p, 1)
	defer p.cuda.Free(at)
	best := func(b *testing.B, inC float64, before, call, after func() error) {
		runtime.LockOSThread() // a group is the thread's
		defer runtime.UnlockOSThread()
		least := time.Hour
		b.ReportAllocs()
		for b.Loop() {
			check(before())
			begun := time.Now()
			for range 256 {
				check(call())
			}
			least = min(least, time.Since(begun))
			check(after())
		}
		here := float64(least.Nanoseconds()) / 256
		b.ReportMetric(here, "call-ns")
		b.ReportMetric(inC, "C-ns")
		b.ReportMetric(here-inC, "added-ns")
	}
	none := func() error { return nil }
	b.Run("AsyncError", func(b *testing.B) { best(b, async, none, p.comm.AsyncError, none) })
	b.Run("AllReduce", func(b *testing.B) {
		best(b, allReduce, p.lib.GroupStart, func() error {
			return p.comm.AllReduce(at, at, 1, Float32, Sum, Stream(p.stream))
		}, func() error {
			check(p.lib.GroupEnd())
			return p.cuda.StreamSynchronize(p.stream)
		})
	})
}

// A collective allocates nothing on Go's side.
func TestCallsAllocateNothing(t *testing.T) {
	t.Setenv("LOOPBACK_LAUNCH_US", "-1")
	p := join(must(must(Open()).NewUniqueID()), 0, 1)
	check(p.comm.Await(patience))
	defer p.close()
	_, at := buffer[float32](p, 1)
	defer p.cuda.Free(at)
	e := must(p.cuda.NewEvent(false))
	defer p.cuda.DestroyEvent(e)
	if n := testing.AllocsPerRun(100, func() {
		check(p.comm.AllReduce(at, at, 1, Float32, Sum, Stream(p.stream)))
		check(p.comm.AsyncError())
		check(p.cuda.Record(e, p.stream))
		check(p.cuda.StreamWait(p.stream, e))
		must(p.cuda.EventDone(e))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
