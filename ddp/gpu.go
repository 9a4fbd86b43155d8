package ddp

import (
	"fmt"

	"github.com/ddprun/ddprun/nccl/cuda"
)

// GPU is what is told of a GPU and what choices depend on.
type GPU struct {
	Index        int // among those that CUDA_VISIBLE_DEVICES leaves
	Major, Minor int // compute capability
	PCI          string

	Multiprocessors int
	MemoryMiB       int64 // in all
}

// DescribeGPU describes one of the GPUs, but for its memory.
func DescribeGPU(index int) (GPU, error) {
	runtime, err := cuda.Open()
	if err != nil {
		return GPU{}, err
	}
	p, err := runtime.Properties(index)
	return GPU{Index: index, Major: p.Major, Minor: p.Minor, PCI: p.PCI, Multiprocessors: p.Multiprocessors}, err
}

// CurrentGPUMemoryMiB is the memory, in all, of the calling OS thread's current device.
func CurrentGPUMemoryMiB() (int64, error) {
	runtime, err := cuda.Open()
	if err != nil {
		return 0, err
	}
	_, total, err := runtime.Memory()
	return total >> 20, err
}

// Capability is the compute capability as NVIDIA writes it.
func (g GPU) Capability() string { return fmt.Sprintf("%d.%d", g.Major, g.Minor) }

func (g GPU) String() string {
	return fmt.Sprintf("GPU %d (%s, compute capability %s)", g.Index, g.PCI, g.Capability())
}
