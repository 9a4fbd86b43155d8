package nccl

import (
	"fmt"
	"testing"
)

func init() {
	roles["allreduce"] = func() error {
		p := fromEnvironment()
		for _, n := range []int{0, 1, 3, 1000, 300_000} {
			v, at := buffer[float32](p, n)
			for i := range v {
				v[i] = float32(i%100 + p.rank)
			}
			p.do(p.comm.AllReduce(at, at, n, Float32, Sum, Stream(p.stream)))
			for i := range v {
				if want := float32(p.size*(i%100) + p.size*(p.size-1)/2); v[i] != want {
					return fmt.Errorf("rank %d: element %d of %d is %v, want %v", p.rank, i, n, v[i], want)
				}
			}
			check(p.cuda.Free(at))
		}
		p.close()
		return nil
	}
}

func TestAllReduce(t *testing.T) {
	for size := 1; size <= 4; size++ {
		said, well := ranks(t, "allreduce", size)
		for r := range well {
			if !well[r] {
				t.Errorf("rank %d of %d: %s", r, size, said[r])
			}
		}
	}
}
