package train

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/torch"
)

func TestRanksTakeTheGPUsOfTheirNode(t *testing.T) {
	for _, c := range []struct {
		local, locals, gpus int
		share               bool
		index               int
		use                 ddp.NCCLUse
		said                string
	}{
		{0, 1, 1, false, 0, ddp.OnGPUs, ""},
		{3, 4, 8, false, 3, ddp.OnGPUs, ""},
		{3, 4, 8, true, 3, ddp.OnGPUs, ""},
		{3, 4, 2, true, 1, ddp.OnSharedGPUs, ""},
		{1, 2, 1, true, 0, ddp.OnSharedGPUs, ""},
		{0, 4, 2, false, 0, 0, "4 ranks and 2 GPUs on this node: start with --nproc 2, or see CUDA_VISIBLE_DEVICES; ranks share a GPU, slowly, with NCCL 2.30.7 or later and NCCL_MULTI_RANK_GPU_ENABLE=1"},
		{1, 2, 1, false, 0, 0, "2 ranks and 1 GPU on this node: start with --nproc 1, or see"},
	} {
		index, use, err := gpuOf(c.local, c.locals, c.gpus, c.share)
		if index != c.index || use != c.use || (err == nil) != (c.said == "") || err != nil && !strings.Contains(err.Error(), c.said) {
			t.Errorf("rank %d of %d on %d GPUs: GPU %d, use %d, %v", c.local, c.locals, c.gpus, index, use, err)
		}
	}
}

func TestTheCPUIsTakenForAReason(t *testing.T) {
	if torch.HasDriver() {
		t.Skip("there is an NVIDIA driver: TestGPU... see what is chosen")
	}
	for _, c := range []struct{ device, backend, why string }{{"cpu", "auto", "device: cpu"}, {"auto", "auto", "there is no NVIDIA driver"}, {"auto", "gloo", "backend: gloo sums in the host's memory"}} {
		p, err := choosePlace(settings(t, goldenModel, "device="+c.device, "backend="+c.backend), 0, 1, 1)
		if err != nil || p.onGPU() || p.why != c.why || p.name() != "cpu" {
			t.Errorf("%+v: %+v, %v", c, p, err)
		}
	}
	_, err := choosePlace(settings(t, goldenModel, "device=cuda"), 0, 1, 1)
	if err == nil || !strings.HasPrefix(err.Error(), "device: cuda: no NVIDIA driver: ") || !strings.Contains(err.Error(), "install") {
		t.Errorf("device: cuda without a driver: %v", err)
	}
}

func TestCapabilityOfAGPU(t *testing.T) {
	old, recent := ddp.GPU{Index: 1, Major: 7, Minor: 5, PCI: "0000:3b:00.0"}, ddp.GPU{Major: 9}
	for _, key := range []string{"bf16", "tf32"} {
		c := settings(t, goldenModel, "device=cuda", key+"=true")
		err := checkCapability(c, old)
		if want := key + ": GPU 1 (0000:3b:00.0, compute capability 7.5) has none: it begins with 8.0 (Ampere); remove " + key + ", or set device: cpu"; err == nil || err.Error() != want {
			t.Errorf("%s: %v", key, err)
		}
		if err := checkCapability(c, recent); err != nil {
			t.Error(err)
		}
	}
	if err := checkCapability(settings(t, goldenModel), old); err != nil {
		t.Error(err)
	}
}

// What is fixed for determinism leaves alone what somebody has set.
func TestFixedAlgorithms(t *testing.T) {
	t.Setenv("NCCL_ALGO", "Tree")
	t.Setenv("NCCL_PROTO", "") // put back at the end
	t.Setenv("CUBLAS_WORKSPACE_CONFIG", "")
	os.Unsetenv("NCCL_PROTO")
	os.Unsetenv("CUBLAS_WORKSPACE_CONFIG")
	fixAlgorithms()
	for name, want := range map[string]string{"NCCL_ALGO": "Tree", "NCCL_PROTO": "Simple", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"} {
		if got := os.Getenv(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// Ranks on GPUs and ranks on CPUs do not wait for each other: all are told.
func TestRanksOfTwoKindsAreRefused(t *testing.T) {
	group := ddp.NewLocal(3, nil)
	errs := make(chan error, 3)
	for rank := range 3 {
		job := &Job{Rank: rank, World: 3}
		if job.place.why = "there is no NVIDIA driver"; rank == 1 {
			job.place = place{gpu: &ddp.GPU{Major: 9}, why: "device: auto"}
		}
		go func() { errs <- sameKind(job, group[rank]) }()
	}
	for range 3 {
		err := <-errs
		wantKind(t, err, ErrInput)
		if !strings.Contains(err.Error(), "1 of 3 ranks are on GPUs and the others on CPUs: rank") || !strings.Contains(err.Error(), "since") {
			t.Error(err)
		}
	}
}

// Different GPUs are named with their ranks, once; the same ones are not.
func TestDifferentGPUsAreNamed(t *testing.T) {
	for _, alike := range []bool{true, false} {
		var log bytes.Buffer
		group := ddp.NewLocal(3, nil)
		var all sync.WaitGroup
		for rank := range 3 {
			gpu := ddp.GPU{Index: rank, Major: 9, Multiprocessors: 132, MemoryMiB: 81559}
			if rank == 1 && !alike {
				gpu.Major, gpu.MemoryMiB = 8, 40536
			}
			job := &Job{Rank: rank, World: 3, Log: zerolog.Nop(), Nodes: []Node{{Name: "a", FirstRank: 0, Ranks: 1}, {Name: "b", FirstRank: 1, Ranks: 2}}, place: place{gpu: &gpu}}
			if rank == 0 {
				job.Log = zerolog.New(&log)
			}
			all.Go(func() {
				if err := job.compareGPUs(group[rank]); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		const want = "rank 0 (a) and 1 more: compute capability 9.0, 132 multiprocessors and 80 GiB; rank 1 (b): compute capability 8.0, 132 multiprocessors and 40 GiB"
		if said := log.String(); alike != (said == "") || !alike && strings.Count(said, want) != 1 {
			t.Errorf("alike is %v: %q", alike, said)
		}
	}
}

// A GPU whose memory is full is no failure that a restart mends, and the way out is said; other errors stay as they are.
func TestFullGPU(t *testing.T) {
	full := &torch.Error{Op: "linear", Message: "CUDA out of memory. Tried to allocate 2.00 GiB."}
	err := fullGPU(full)
	wantKind(t, err, ErrPermanent, "Tried to allocate 2.00 GiB.", "per_device_train_batch_size", "gradient_checkpointing: true")
	if other := error(&torch.Error{Op: "linear", Message: "shapes"}); fullGPU(other) != other {
		t.Errorf("%v", fullGPU(other))
	}
}
