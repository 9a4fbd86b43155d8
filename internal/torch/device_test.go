package torch

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Without a driver, and with one but without libtorch's CUDA half or a GPU, opening it is a plain sentence.
func TestOpenCUDA(t *testing.T) {
	gpus, err := OpenCUDA()
	switch {
	case err == nil && gpus < 1:
		t.Error("no GPU and no error")
	case err == nil:
		t.Skipf("%d GPUs: make test-gpu", gpus)
	case HasDriver() == strings.Contains(err.Error(), "install NVIDIA's driver"):
		t.Errorf("driver: %v; %v", HasDriver(), err)
	}
	t.Log(err)
}

// The real libtorch_cuda.so, without a GPU: it loads, and has a kernel for every operation of the composed layers (internal/model/testdata/composed_operations.txt).
func TestCUDAHasTheOperations(t *testing.T) {
	torch := os.Getenv("DDPRUN_CUDA_TORCH")
	if torch == "" {
		t.Skip("DDPRUN_CUDA_TORCH names no libtorch with its CUDA libraries: make test-cuda-libs")
	}
	if os.Getenv("TEST_CUDA_OPERATIONS") == "" { // in a process of its own: it changes what libtorch is
		cmd := exec.Command(os.Args[0], "-test.run=^TestCUDAHasTheOperations$", "-test.v")
		cmd.Env = append(os.Environ(), "TEST_CUDA_OPERATIONS=1")
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := ForbidWaits(true); err == nil {
		t.Error("what is not open is told to forbid waiting")
	}
	if hasCUDAKernel("aten::native_dropout") {
		t.Error("there is a kernel before the library is open")
	}
	if err := openLibrary(filepath.Join(torch, "lib", "libtorch_cuda.so")); err != nil {
		t.Fatal(err)
	}
	if err := ForbidWaits(true); err != nil {
		t.Error(err)
	}
	list, err := os.ReadFile("../model/testdata/composed_operations.txt")
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(list))
	if len(names) < 60 {
		t.Errorf("%d operations", len(names))
	}
	for _, name := range names {
		if !hasCUDAKernel(name) {
			t.Errorf("%s has no kernel for CUDA", name)
		}
	}
	if hasCUDAKernel("aten::_scaled_dot_product_flash_attention_for_cpu") || hasCUDAKernel("aten::no_such_operation") {
		t.Error("an operation of the CPU's alone, or of nobody's, has a kernel")
	}
}

// A trace has what would wait for a GPU in it.
func TestTrace(t *testing.T) {
	do(t, func(s *Scope) {
		x := s.FromFloat32s([]float32{1, 2}, 2)
		names := Trace(func() {
			s.Relu(x)
			s.ToHost(x)
			s.View(x, 1).Value()
			x.Float32s()
		})
		if w := Waits(names); !slices.Contains(w, "shim::to_host") || !slices.Contains(w, "aten::_local_scalar_dense") || !slices.Contains(w, "shim::memory") {
			t.Errorf("%q", names)
		}
		if !slices.Contains(names, "aten::relu") {
			t.Errorf("%q", names)
		}
	})
}

// A copy to the host is that of the moment at which it was started, comes late, and may be given up.
func TestFetch(t *testing.T) {
	do(t, func(s *Scope) {
		x := s.Zeros(Float64, 3)
		copy(x.Float64s(), []float64{1, 2, 3})
		var f, dropped *Fetch
		if w := Waits(Trace(func() { f, dropped = NewFetch(x), NewFetch(x) })); len(w) > 0 {
			t.Errorf("the host would wait at %q", w)
		}
		x.Zero()
		if f.Done() {
			t.Error("there at once")
		}
		if got, err := f.Wait(); err != nil || !slices.Equal(got, []float64{1, 2, 3}) {
			t.Errorf("%v, %v", got, err)
		}
		dropped.Drop()
		if _, err := NewFetch(s.Zeros(Float32, 3)).Wait(); err == nil {
			t.Error("float32 is taken for float64")
		}
	})
}

// The verdict on a step, and that nothing which leads to it makes the host wait.
func TestJudge(t *testing.T) {
	do(t, func(s *Scope) {
		streak, steps := s.Zeros(Float64), s.Zeros(Float32)
		const limit = 2
		for i, c := range []struct {
			bad     float32 // in the second gradient
			verdict []float64
			scale   float32
		}{
			{0, []float64{5, 0, 0, -1, 1}, 2.5}, {float32(math.Inf(1)), []float64{math.Inf(1), 1, 1, 1, 1}, 0}, {4, []float64{math.Sqrt(41), 0, 0, -1, 2}, 3.2015622},
			{float32(math.NaN()), []float64{math.NaN(), 1, 1, 1, 2}, 0}, {float32(math.NaN()), []float64{math.NaN(), 1, 2, 1, 2}, 0}, {0, []float64{5, 1, 2, -1, 2}, 0},
		} {
			a, b := s.FromFloat32s([]float32{3, 0}, 2), s.FromFloat32s([]float32{4, c.bad, 0}, 3)
			var j Judgement
			if w := Waits(Trace(func() { j = s.Judge([]Tensor{a, b}, streak, steps, 2, limit) })); len(w) > 0 {
				t.Errorf("the host would wait at %q", w)
			}
			for k, x := range j.Verdict.Float64s() {
				if want := c.verdict[k]; x != want && !(math.IsNaN(x) && math.IsNaN(want)) && !(math.Abs(x/want-1) < 1e-15) {
					t.Errorf("case %d: %v, want %v", i, j.Verdict.Float64s(), c.verdict)
					break
				}
			}
			if found := j.foundInf.Value(); found != c.verdict[1] {
				t.Errorf("case %d: found_inf %v", i, found)
			}
			if scale := float32(j.gradientScale.Value()); c.scale > 0 && math.Abs(float64(scale/c.scale-1)) > 1e-6 {
				t.Errorf("case %d: gradients are divided by %v, want %v", i, scale, c.scale)
			}
		}
		// Gradients whose squares float32 cannot hold, and none to be clipped.
		j := s.Judge([]Tensor{s.FromFloat32s([]float32{3e30, -4e30}, 2)}, s.Zeros(Float64), steps, 0, 0)
		if norm := j.Verdict.Float64s()[0]; math.Abs(norm/5e30-1) > 1e-6 || j.gradientScale.Defined() {
			t.Errorf("a norm of %v", norm)
		}
	})
}

// Every query has a slot of its own sample, and every slot the row of its token.
func TestPlanPadding(t *testing.T) {
	queries, keys := []int32{0, 3, 3, 70, 72}, []int32{0, 5, 9, 76, 80}
	plan, lengths, samples := planPadding(queries, keys, func(d int) int64 { return int64(d + 1000) })
	if !slices.Equal(lengths, []int64{64, 128}) || !slices.Equal(samples, []int64{2, 1}) {
		t.Fatalf("groups of %v, %v", lengths, samples)
	}
	var queryOf []int64 // the row in a slot
	at := int64(0)
	for g := range lengths {
		slots := lengths[g] * samples[g]
		queryOf = append(queryOf, plan[at+slots:at+2*slots]...)
		counts := plan[at+2*slots : at+2*slots+samples[g]]
		if g == 0 && !slices.Equal(counts, []int64{5, 4}) || g == 1 && !slices.Equal(counts, []int64{67}) {
			t.Errorf("group %d has samples of %v", g, counts)
		}
		if plan[at+4] != 4 || plan[at] != map[int]int64{0: 0, 1: 9}[g] { // rows of the first sample's keys
			if g == 0 {
				t.Errorf("group %d begins with the keys %v", g, plan[at:at+6])
			}
		}
		first := at + 2*slots + samples[g]
		if plan[first] != 1000-lengths[g]+1 || plan[first+2*lengths[g]-2] != 1000+lengths[g]-1 {
			t.Errorf("group %d: buckets from %d to %d", g, plan[first], plan[first+2*lengths[g]-2])
		}
		at = first + 2*lengths[g] - 1
	}
	slots := plan[at:]
	if len(slots) != 72 {
		t.Fatalf("%d slots", len(slots))
	}
	for row, slot := range slots {
		if queryOf[slot] != int64(row) {
			t.Errorf("the slot of query %d holds %d", row, queryOf[slot])
		}
	}
	if slots[0] != 2 { // of 5 keys, 3 ask: the last
		t.Errorf("the first query is at %d", slots[0])
	}
}
