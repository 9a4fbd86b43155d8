package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// cuda-libs.sh takes the driver's libraries for granted, and nothing else.
func TestCUDALibrariesAreMissed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lib, nccl := filepath.Join(dir, "torch", "lib"), filepath.Join(dir, "nvidia", "nccl", "lib")
	for _, d := range []string{lib, nccl} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cc := func(arguments ...string) {
		t.Helper()
		command := exec.Command("cc", append([]string{"-shared", "-fPIC", "-x", "c", "/dev/null", "-Wl,--no-as-needed"}, arguments...)...)
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	driver := filepath.Join(dir, "libcuda.so.1") // on no path of the loader's
	cc("-o", driver, "-Wl,-soname,libcuda.so.1")
	cc("-o", filepath.Join(nccl, "libnccl.so.2"), "-Wl,-soname,libnccl.so.2")
	cc("-o", filepath.Join(lib, "libtorch_cuda.so"), "-Wl,-rpath,$ORIGIN/../../nvidia/nccl/lib", "-x", "none", driver, filepath.Join(nccl, "libnccl.so.2"))
	if out, ok := script(t, nil, "cuda-libs.sh", dir); !ok || !strings.HasSuffix(out, dir+"/torch\n") {
		t.Errorf("all but the driver's is there: %s", out)
	}
	if err := os.Remove(filepath.Join(nccl, "libnccl.so.2")); err != nil {
		t.Fatal(err)
	}
	if out, ok := script(t, nil, "cuda-libs.sh", dir); ok || !strings.Contains(out, "libtorch_cuda.so: libnccl.so.2") {
		t.Errorf("libnccl is gone: %s", out)
	}
}
