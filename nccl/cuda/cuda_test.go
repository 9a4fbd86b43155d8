package cuda

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/ddprun/ddprun/nccl/loopback"
)

func TestMain(m *testing.M) {
	library, err := loopback.Build()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, variable := range loopback.Environment(library) {
		name, value, _ := strings.Cut(variable, "=")
		os.Setenv(name, value)
	}
	os.Exit(m.Run())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func bytesAt(at uintptr, n int) []byte { return unsafe.Slice(*(**byte)(unsafe.Pointer(&at)), n) }

// A stream is in order, waits for another by an event, and the host waits for neither until it asks.
func TestStreams(t *testing.T) {
	r := must(Open())
	a, b := must(r.NewStream(false)), must(r.NewStream(true))
	const n = 1 << 20
	from, mid, to := must(r.AllocHost(n)), must(r.Alloc(n)), must(r.AllocHost(n))
	before, after := must(r.NewEvent(true)), must(r.NewEvent(true))
	if done, err := r.EventDone(before); !done || err != nil {
		t.Errorf("an event that was never recorded is not done: %v", err)
	}
	for round := range 200 {
		for i, v := range bytesAt(from, n)[:16] {
			bytesAt(from, n)[i] = v + byte(round)
		}
		bytesAt(from, n)[n-1] = byte(round)
		check(r.Record(before, a))
		check(r.CopyAsync(mid, from, n, a))
		check(r.Record(after, a))
		check(r.StreamWait(b, after))
		check(r.CopyAsync(to, mid, n, b))
		check(r.StreamSynchronize(b))
		if bytesAt(to, n)[n-1] != byte(round) {
			t.Fatalf("round %d: the second stream did not wait for the first", round)
		}
		if done, err := r.EventDone(after); !done || err != nil {
			t.Fatalf("round %d: the event is passed: %v", round, err)
		}
		check(r.EventSynchronize(after))
		if took := must(r.Elapsed(before, after)); took < 0 {
			t.Fatalf("elapsed %v", took)
		}
	}
	check(r.StreamSynchronize(a)) // its thread may not have come back from the last event yet
	if done, err := r.StreamDone(a); !done || err != nil {
		t.Errorf("an empty stream is not done: %v", err)
	}
	check(r.CopyAsync(mid, from, n, a))
	check(r.DestroyStream(a)) // what is on it still runs
	check(r.Free(mid))        // and is waited for
	check(r.DestroyStream(b))
	check(r.DestroyEvent(before))
	check(r.DestroyEvent(after))
	check(r.FreeHost(from))
	check(r.FreeHost(to))
	check(r.Synchronize())
}

func TestDevices(t *testing.T) {
	r := must(Open())
	if n := must(r.DeviceCount()); n != 8 {
		t.Errorf("%d devices", n)
	}
	check(r.SetDevice(2))
	p := must(r.Properties(1))
	if p.Major != 9 || p.PCI != "0000:02:00.0" {
		t.Errorf("properties %+v", p)
	}
	err := r.SetDevice(8)
	var e *Error
	if !errors.Is(err, ErrInvalidDevice) || !errors.As(err, &e) || e.Name != "cudaErrorInvalidDevice" {
		t.Errorf("a device that is not there: %v", err)
	}
	t.Setenv("LOOPBACK_DEVICES", "0")
	if _, err := r.DeviceCount(); !errors.Is(err, ErrNoDevice) || !strings.Contains(err.Error(), "device: cpu") {
		t.Errorf("no device: %v", err)
	}
	if free, total, err := r.Memory(); err != nil || free > total {
		t.Errorf("memory %d of %d: %v", free, total, err)
	}
	if runtime, driver, err := r.Versions(); err != nil || runtime == 0 || driver == 0 {
		t.Errorf("versions %d, %d: %v", runtime, driver, err)
	}
}
