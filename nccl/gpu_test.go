package nccl

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/ddprun/ddprun/nccl/cuda"
)

func init() { roles["gpu"] = sumOnGPUs }

// sumOnGPUs sums a vector over all GPUs, a rank each, with the real libraries, in place and several times in a row.
func sumOnGPUs() error {
	r, err := cuda.Open()
	n := 0
	if err == nil {
		n, err = r.DeviceCount()
	}
	if err != nil {
		fmt.Println("skip:", err)
		return nil
	}
	lib, err := Open()
	if err != nil {
		return err
	}
	id, err := lib.NewUniqueID()
	if err != nil {
		return err
	}
	const count, times = 1 << 20, 3
	errs := make([]error, n)
	var all sync.WaitGroup
	for rank := range n {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			defer func() {
				if p := recover(); p != nil {
					errs[rank] = fmt.Errorf("rank %d: %v", rank, p)
				}
			}()
			check(r.SetDevice(rank))
			p := join(id, rank, n)
			check(p.comm.Await(patience))
			at, host := must(r.Alloc(4*count)), must(r.AllocHost(4*count))
			x := unsafe.Slice(*(**float32)(unsafe.Pointer(&host)), count)
			for i := range x {
				x[i] = float32(rank + i%7)
			}
			check(r.CopyAsync(at, host, 4*count, p.stream))
			for range times {
				p.do(p.comm.AllReduce(at, at, count, Float32, Sum, Stream(p.stream)))
			}
			check(r.CopyAsync(host, at, 4*count, p.stream))
			check(r.StreamSynchronize(p.stream))
			for i := range x {
				want := float32(n*(n-1)/2 + n*(i%7))
				for range times - 1 {
					want *= float32(n)
				}
				if x[i] != want {
					panic(fmt.Sprintf("element %d is %v, want %v", i, x[i], want))
				}
			}
			check(r.Free(at))
			check(r.FreeHost(host))
			p.close()
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	fmt.Printf("summed on %d GPUs by NCCL %s (%s)\n", n, lib.VersionString(), lib.Path())
	return nil
}

// The real NCCL sums over the GPUs that are there.
func TestGPUSums(t *testing.T) {
	library := ""
	if dir := os.Getenv("DDPRUN_NCCL_CU13"); dir != "" {
		library = filepath.Join(dir, "nvidia", "nccl", "lib", "libnccl.so.2")
	}
	cmd, out := role(t, "gpu", "NCCL_LIBRARY="+library, "CUDART_LIBRARY=")
	err := cmd.Run()
	said := strings.TrimSpace(out.String())
	if why, skip := strings.CutPrefix(said, "skip: "); skip {
		t.Skipf("no GPU here: %s", why)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	t.Log(said)
}
