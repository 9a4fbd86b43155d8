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
}

// DescribeGPU describes one of the GPUs.
func DescribeGPU(index int) (GPU, error) {
	runtime, err := cuda.Open()
	if err != nil {
		return GPU{}, err
	}
	p, err := runtime.Properties(index)
	return GPU{index, p.Major, p.Minor, p.PCI}, err
}

// Capability is the compute capability as NVIDIA writes it.
func (g GPU) Capability() string { return fmt.Sprintf("%d.%d", g.Major, g.Minor) }

func (g GPU) String() string {
	return fmt.Sprintf("GPU %d (%s, compute capability %s)", g.Index, g.PCI, g.Capability())
}
