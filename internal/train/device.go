package train

import (
	"fmt"
	"os"
	"strings"

	"github.com/rs/zerolog"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/internal/torch"
)

// place is where the tensors of a rank live; the zero value is the CPU.
type place struct {
	gpu   *ddp.GPU // nil: the CPU
	why   string   // it is this one
	doubt bool     // why is something that people may want to mend
}

func (p place) onGPU() bool { return p.gpu != nil }

// name is what a checkpoint says of it: a continuation on another is not bit for bit.
func (p place) name() string {
	if p.onGPU() {
		return "cuda " + p.gpu.Capability()
	}
	return "cpu"
}

// CheckDevice tells why the ranks of this node, locals of world in all, cannot use the device or the backend of the configuration, before anything is started: an error of kind
// [ErrInput].
func CheckDevice(c *config.Config, locals, world int) error {
	for local := range locals {
		if _, err := choosePlace(c, local, locals, world); err != nil {
			return mark(ErrInput, err)
		}
	}
	return nil
}

// choosePlace tells where rank local of this node's locals works. Where that is a GPU, libtorch's CUDA half is open after it.
func choosePlace(c *config.Config, local, locals, world int) (place, error) {
	p, gpus, err := lookForGPUs(c)
	if err != nil || gpus == 0 {
		if err == nil && c.Backend == "nccl" {
			if err = ddp.CheckNCCL(ddp.OnHost); err != nil {
				err = fmt.Errorf("backend: nccl: on the CPU, since %s: %w; backend: gloo, or auto, trains on the CPU", p.why, err)
			}
		}
		return p, err
	}
	index, use, err := gpuOf(local, locals, gpus, os.Getenv(sharedGPUs) == "1")
	if err == nil && world > 1 {
		err = ddp.CheckNCCL(use)
	}
	if err != nil {
		return p, fmt.Errorf("device: cuda: %w; device: cpu trains on the CPU", err)
	}
	gpu, err := ddp.DescribeGPU(index)
	if err != nil {
		return p, fmt.Errorf("device: cuda: %w", err)
	}
	p.gpu = &gpu
	return p, checkCapability(c, gpu)
}

// sharedGPUs is the variable by which NCCL lets ranks share a GPU.
const sharedGPUs = "NCCL_MULTI_RANK_GPU_ENABLE"

// gpuOf tells which of a node's GPUs rank local of its locals takes, and what that asks of NCCL.
func gpuOf(local, locals, gpus int, share bool) (index int, use ddp.NCCLUse, err error) {
	switch {
	case locals <= gpus:
		return local, ddp.OnGPUs, nil
	case share:
		return local % gpus, ddp.OnSharedGPUs, nil
	}
	return 0, 0, fmt.Errorf("%d ranks and %s on this node: start with --nproc %d, or see CUDA_VISIBLE_DEVICES; ranks share a GPU, slowly, with NCCL 2.30.7 or later and %s=1",
		locals, count(gpus, "GPU"), gpus, sharedGPUs)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// lookForGPUs returns how many GPUs a rank may choose from; none: the CPU it is.
func lookForGPUs(c *config.Config) (p place, gpus int, err error) {
	switch {
	case c.Device == "cpu":
		return place{why: "device: cpu"}, 0, nil
	case c.Device == "auto" && c.Backend == "gloo":
		return place{why: "backend: gloo sums in the host's memory"}, 0, nil
	case c.Device == "auto" && !torch.HasDriver():
		return place{why: "there is no NVIDIA driver"}, 0, nil
	}
	if c.FullDeterminism {
		fixAlgorithms()
	}
	if gpus, err = torch.OpenCUDA(); err == nil {
		return place{why: "device: " + c.Device}, gpus, nil
	}
	if c.Device == "auto" {
		return place{why: err.Error(), doubt: true}, 0, nil
	}
	return place{}, 0, fmt.Errorf("device: cuda: %w; device: cpu, or auto, trains on the CPU", err)
}

// fixAlgorithms has cuBLAS and NCCL compute in one way alone, unless somebody has said in which. They read it when they are opened.
func fixAlgorithms() {
	for name, value := range map[string]string{"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "NCCL_ALGO": "Ring", "NCCL_PROTO": "Simple"} {
		if _, set := os.LookupEnv(name); !set {
			os.Setenv(name, value)
		}
	}
}

// ampere is the compute capability from which GPUs have bfloat16 and TF32.
const ampere = 8

func checkCapability(c *config.Config, gpu ddp.GPU) error {
	for key, asked := range map[string]bool{"bf16": c.BF16, "tf32": c.TF32} {
		if asked && gpu.Major < ampere {
			return fmt.Errorf("%s: %v has none: it begins with 8.0 (Ampere); remove %s, or set device: cpu", key, gpu, key)
		}
	}
	return nil
}

// pretend is a variable that has tensors on the CPU take the way of those on a GPU: for tests, which so see the whole loop work as there.
const pretend = "DDPRUN_PRETEND_CUDA"

// settle chooses the place of this rank's tensors, puts those of this process there, and says which it is. It blocks while libtorch's CUDA half is opened.
func (job *Job) settle() (err error) {
	c := job.Config
	if job.place, err = choosePlace(c, job.LocalRank, max(1, job.LocalWorld), job.World); err != nil {
		return mark(ErrInput, err)
	}
	p := job.place
	if !p.onGPU() {
		if os.Getenv(pretend) == "1" {
			torch.Pretend(true)
		}
		level := zerolog.InfoLevel
		if p.doubt {
			level = zerolog.WarnLevel
		}
		if c.Device == "auto" {
			job.Log.WithLevel(level).Msgf("device: the CPU, since %s", p.why)
		}
		return nil
	}
	if err := torch.UseCUDA(p.gpu.Index); err != nil {
		return fmt.Errorf("%v: %w", p.gpu, err)
	}
	if p.gpu.MemoryMiB, err = ddp.CurrentGPUMemoryMiB(); err != nil {
		return fmt.Errorf("%v: %w", p.gpu, err)
	}
	if err := torch.SetPrecision(c.TF32, c.FullDeterminism); err != nil {
		return err
	}
	job.Log.Info().Msgf("device: %v, since %s", p.gpu, p.why)
	return nil
}

// fullGPU adds the way out to the error of a GPU whose memory is full, which a restart would come to again.
func fullGPU(err error) error {
	if !strings.Contains(err.Error(), "CUDA out of memory") {
		return err
	}
	return mark(ErrPermanent, fmt.Errorf("%w; less memory is taken with a smaller per_device_train_batch_size (the global batch stays, where global_batch_size is set), with bf16: true or with gradient_checkpointing: true", err))
}

// compareGPUs says on rank 0 where ranks have GPUs of different kinds. Every rank calls it.
func (job *Job) compareGPUs(host ddp.Group) error {
	g := job.place.gpu
	rows, err := ddp.GatherFloat64s(host, []float64{float64(g.Major), float64(g.Minor), float64(g.Multiprocessors), float64(g.MemoryMiB)})
	if err != nil || job.Rank != 0 {
		return mark(ErrPeer, err)
	}
	ranks := map[string][]int{}
	var kinds []string
	for rank, x := range rows {
		kind := fmt.Sprintf("compute capability %.0f.%.0f, %.0f multiprocessors and %.0f GiB", x[0], x[1], x[2], x[3]/1024)
		if ranks[kind] = append(ranks[kind], rank); len(ranks[kind]) == 1 {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) == 1 {
		return nil
	}
	var all []string
	for _, kind := range kinds {
		text := job.rankName(ranks[kind][0])
		if n := len(ranks[kind]) - 1; n > 0 {
			text += fmt.Sprintf(" and %d more", n)
		}
		all = append(all, text+": "+kind)
	}
	job.Log.Warn().Msgf("the ranks have different GPUs, and the slowest sets the pace: %s", strings.Join(all, "; "))
	return nil
}
