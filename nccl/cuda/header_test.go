package cuda

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The functions and numbers that cuda.go writes down anew are held against NVIDIA's own header.
func TestHeader(t *testing.T) {
	include := filepath.Join(os.Getenv("DDPRUN_CUDART"), "..", "include")
	if _, err := os.Stat(filepath.Join(include, "cuda_runtime_api.h")); os.Getenv("DDPRUN_CUDART") == "" || err != nil {
		t.Skip("DDPRUN_CUDART names no CUDA runtime with headers: eval \"$(../../scripts/nccl-wheels.sh)\", or make test")
	}
	dir := t.TempDir()
	// The compiler's part of the headers is in another package of NVIDIA's; it only decorates.
	if err := os.Mkdir(filepath.Join(dir, "crt"), 0o755); err != nil {
		t.Fatal(err)
	}
	stub := "#define __host__\n#define __device__\n#define __device_builtin__\n#define __cudart_builtin__\n#define CUDARTAPI\n#define CUDARTAPI_CDECL\n" +
		"#define CUDART_CB\n#define __device_builtin_texture_type__\n#define __device_builtin_surface_type__\n" +
		"#define __align__(n) __attribute__((aligned(n)))\n#define __builtin_align__(n) __align__(n)\n"
	for _, name := range []string{"crt/host_defines.h", "crt/host_config.h"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(stub), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	source, err := os.ReadFile("cuda.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^    (?:int|const char \*) ?\(\*(\w+)\)\((.*)\);$`).FindAllStringSubmatch(string(source), -1)
	if len(found) != len(names) {
		t.Fatalf("struct api has %d functions, names %d", len(found), len(names))
	}
	var b strings.Builder
	b.WriteString("#include <cuda_runtime_api.h>\n_Static_assert(sizeof(cudaError_t) == sizeof(int), \"\");\n")
	for i, f := range found {
		if "cuda"+f[1] != names[i] {
			t.Errorf("function %d of struct api is %s, and names has %s", i, f[1], names[i])
		}
		var arguments []string
		for _, kind := range strings.Split(f[2], ", ") {
			switch kind {
			case "void":
			case "ptr", "ptr *":
				arguments = append(arguments, "(void *)0")
			default:
				arguments = append(arguments, "("+kind+")0")
			}
		}
		fmt.Fprintf(&b, "__typeof__(cuda%s(%s)) result%d;\n", f[1], strings.Join(arguments, ", "), i)
	}
	for name, value := range map[string]int{"cudaErrorMemoryAllocation": int(ErrMemory), "cudaErrorStubLibrary": int(ErrStub),
		"cudaErrorInsufficientDriver": int(ErrNoDriver), "cudaErrorNoDevice": int(ErrNoDevice), "cudaErrorInvalidDevice": int(ErrInvalidDevice),
		"cudaErrorInvalidResourceHandle": int(ErrInvalidHandle), "cudaErrorNotReady": int(codeNotReady),
		"cudaErrorSystemDriverMismatch": int(ErrDriverMismatch), "cudaDevAttrMultiProcessorCount": attributeMultiprocessors,
		"cudaDevAttrComputeCapabilityMajor": attributeMajor, "cudaDevAttrComputeCapabilityMinor": attributeMinor,
		"cudaStreamNonBlocking": nonBlocking, "cudaEventDisableTiming": disableTiming, "cudaMemcpyDefault": 4} {
		fmt.Fprintf(&b, "_Static_assert(%s == %d, \"%s\");\n", name, value, name)
	}
	program := filepath.Join(dir, "asserts.c")
	if err := os.WriteFile(program, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("cc", "-std=gnu11", "-Werror=incompatible-pointer-types", "-Werror=int-conversion", "-fsyntax-only", "-I"+dir, "-I"+include,
		program).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
