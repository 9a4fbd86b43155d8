package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestCountGPUs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"nvidia0", "nvidia1", "nvidia11", "nvidiactl", "nvidia-uvm"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		visible string
		want    int
	}{{"unset", 3}, {"", 0}, {"0", 1}, {"1, 0", 2}, {"0,-1,1", 1}, {"GPU-4a,MIG-5b", 2}, {"NoDevFiles", 0}} {
		t.Setenv("CUDA_VISIBLE_DEVICES", c.visible)
		if c.visible == "unset" {
			os.Unsetenv("CUDA_VISIBLE_DEVICES")
		}
		if got, err := countGPUs(filepath.Join(dir, "nvidia[0-9]*")); err != nil || got != c.want {
			t.Errorf("CUDA_VISIBLE_DEVICES %q: %d GPUs (%v), want %d", c.visible, got, err, c.want)
		}
	}
}

func TestNProcAuto(t *testing.T) {
	for _, c := range []struct {
		visible, device string
		want            int
	}{{"0,1,2", "auto", 3}, {"0,1,2", "cpu", 1}, {"", "auto", 1}} {
		t.Setenv("CUDA_VISIBLE_DEVICES", c.visible)
		if got, err := parseNProc("auto", c.device); err != nil || got != c.want {
			t.Errorf("%+v: got %d, %v", c, got, err)
		}
	}
}

func TestNProcOutOfRange(t *testing.T) {
	for _, text := range []string{"0", "-1", "1025", "99999999999999999999", "1e3", "2.0", ""} {
		if n, err := parseNProc(text, "cpu"); err == nil || !strings.Contains(err.Error(), "--nproc") {
			t.Errorf("--nproc %q: got %d, %v", text, n, err)
		}
	}
}

func TestNProcByTorchrunsWords(t *testing.T) {
	t.Setenv("CUDA_VISIBLE_DEVICES", "0,1")
	if n, err := parseNProc("gpu", "auto"); n != 2 || err != nil {
		t.Errorf("gpu: %d %v", n, err)
	}
	t.Setenv("CUDA_VISIBLE_DEVICES", "")
	if n, err := parseNProc("gpu", "auto"); err == nil {
		t.Errorf("gpu without any: %d", n)
	}
	if n, err := parseNProc("cpu", "cpu"); n != runtime.GOMAXPROCS(0) || err != nil {
		t.Errorf("cpu: %d %v", n, err)
	}
}
