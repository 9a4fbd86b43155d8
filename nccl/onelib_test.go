package nccl

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/nccl/cuda"
	"github.com/ddprun/ddprun/nccl/dl"
)

// mapped lists the files of a library's name that the process has.
func mapped(name string) []string {
	maps, err := os.ReadFile("/proc/self/maps")
	check(err)
	var files []string
	for line := range strings.Lines(string(maps)) {
		if i := strings.IndexByte(line, '/'); i >= 0 && strings.HasPrefix(filepath.Base(line[i:]), name) {
			files = append(files, strings.TrimSpace(line[i:]))
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

func init() {
	roles["one"] = func() error {
		torch := dl.Search{Variable: "TEST_TORCH_CUDA", Names: []string{"libtorch_cuda.so"}}
		first := os.Getenv("NCCL_LIBRARY") != ""
		if first {
			must(Open())
		}
		must(torch.Open())
		l, r := must(Open()), must(cuda.Open())
		return json.NewEncoder(os.Stdout).Encode(map[string]any{"nccl": l.Path(), "cudart": r.Path(), "ncclMapped": mapped("libnccl.so"),
			"cudartMapped": mapped("libcudart.so")})
	}
}

// The process has one libnccl and one libcudart, whoever opens them first: the real libtorch_cuda.so and this package.
func TestOneLibraryWithTorch(t *testing.T) {
	torch := os.Getenv("DDPRUN_CUDA_TORCH")
	if torch == "" {
		t.Skip("DDPRUN_CUDA_TORCH names no libtorch with its CUDA libraries: make test-cuda-libs")
	}
	theirs, err := filepath.EvalSymlinks(filepath.Join(torch, "..", "nvidia", "nccl", "lib", "libnccl.so.2"))
	if err != nil {
		t.Fatal(err)
	}
	ours := filepath.Join(wheel(t, "13"), "nvidia", "nccl", "lib", "libnccl.so.2")
	for _, c := range []struct{ name, variable, want string }{{"libtorch's", "", theirs}, {"NCCL_LIBRARY's", ours, ours}} {
		t.Run(c.name, func(t *testing.T) {
			cmd, out := role(t, "one", "NCCL_LIBRARY="+c.variable, "CUDART_LIBRARY=", "LD_LIBRARY_PATH=", "LIBTORCH=", "PATH=",
				"TEST_TORCH_CUDA="+filepath.Join(torch, "lib", "libtorch_cuda.so"))
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var told struct {
				NCCL, Cudart             string
				NcclMapped, CudartMapped []string
			}
			if err := json.Unmarshal(out.Bytes(), &told); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if told.NCCL != c.want || !slices.Equal(told.NcclMapped, []string{c.want}) {
				t.Errorf("nccl is %s, in the process %v; want %s alone", told.NCCL, told.NcclMapped, c.want)
			}
			if !slices.Equal(told.CudartMapped, []string{told.Cudart}) {
				t.Errorf("cudart is %s, in the process %v", told.Cudart, told.CudartMapped)
			}
		})
	}
}
