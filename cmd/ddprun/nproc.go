package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/ddprun/ddprun/launch"
)

// gpuNodes is where the driver shows one file for each GPU.
const gpuNodes = "/dev/nvidia[0-9]*"

// parseNProc reads --nproc: a number of ranks; auto, which is one for each GPU where the device may be cuda and there is
// one, else 1; or torchrun's gpu and cpu, which are one for each of those.
func parseNProc(text, device string) (int, error) {
	if text == "auto" {
		if device == "cpu" {
			return 1, nil
		}
		gpus, err := countGPUs(gpuNodes)
		return max(1, gpus), err
	}
	switch text {
	case "gpu": // torchrun's
		gpus, err := countGPUs(gpuNodes)
		if err == nil && gpus == 0 {
			err = errors.New("--nproc gpu: there is no GPU here; auto takes one rank then")
		}
		return gpus, err
	case "cpu": // torchrun's; GOMAXPROCS knows affinity and quotas
		return runtime.GOMAXPROCS(0), nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("--nproc: want a number of ranks, auto, gpu or cpu, got %q", text)
	}
	if n < 1 {
		return 0, fmt.Errorf("--nproc: must be at least 1, got %d", n)
	}
	if n > launch.MaxWorkers {
		return 0, fmt.Errorf("--nproc: must be at most %d, got %d", launch.MaxWorkers, n)
	}
	return n, nil
}

// countGPUs counts the GPUs that a process started from here may use.
func countGPUs(pattern string) (int, error) {
	if visible, found := os.LookupEnv("CUDA_VISIBLE_DEVICES"); found {
		// As CUDA reads it: the list ends at the first entry that names no device.
		count := 0
		for entry := range strings.SplitSeq(visible, ",") {
			entry = strings.TrimSpace(entry)
			if entry == "" || strings.HasPrefix(entry, "-") || entry == "NoDevFiles" {
				break
			}
			count++
		}
		return count, nil
	}
	nodes, err := filepath.Glob(pattern)
	if err != nil {
		return 0, fmt.Errorf("--nproc auto: %w", err)
	}
	return len(nodes), nil
}
