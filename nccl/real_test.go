package nccl

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/nccl/cuda"
)

// wheel returns where scripts/nccl-wheels.sh has put NVIDIA's package for a CUDA version, or skips.
func wheel(t *testing.T, cudaVersion string) string {
	t.Helper()
	dir := os.Getenv("DDPRUN_NCCL_CU" + cudaVersion)
	if dir == "" {
		t.Skipf("DDPRUN_NCCL_CU%s is not set: eval \"$(scripts/nccl-wheels.sh)\", or make test", cudaVersion)
	}
	return dir
}

// Every constant and layout of api.h is held against NVIDIA's own header.
func TestHeader(t *testing.T) {
	for _, version := range []string{"13", "12"} {
		t.Run("cu"+version, func(t *testing.T) {
			include := filepath.Join(wheel(t, version), "nvidia", "nccl", "include")
			here, err := filepath.Abs(".")
			if err != nil {
				t.Fatal(err)
			}
			// The header wants three of CUDA's for a stream's type alone.
			stubs := t.TempDir()
			for name, text := range map[string]string{
				"cuda_runtime.h": "#include <stddef.h>\n#define CUDART_VERSION 12000\ntypedef struct CUstream_st *cudaStream_t;\n", "cuda_fp16.h": "", "cuda_bf16.h": ""} {
				if err := os.WriteFile(filepath.Join(stubs, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			program := filepath.Join(stubs, "asserts.c")
			if err := os.WriteFile(program, []byte(headerAsserts(t)), 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("cc", "-std=gnu11", "-Wall", "-Werror=incompatible-pointer-types", "-Werror=int-conversion", "-fsyntax-only", "-I"+stubs, "-I"+include, "-I"+here,
				program).CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// headerAsserts writes the C program that only compiles where api.h and the Go constants are what nccl.h says.
func headerAsserts(t *testing.T) string {
	var b strings.Builder
	b.WriteString("#include <nccl.h>\n#include \"api.h\"\n")
	same := func(a, c any) { fmt.Fprintf(&b, "_Static_assert((%v) == (%v), \"%v is not %v\");\n", a, c, a, c) }
	same("sizeof(api_unique_id)", "sizeof(ncclUniqueId)")
	same("API_UNIQUE_ID_BYTES", "NCCL_UNIQUE_ID_BYTES")
	same("API_SPLIT_NOCOLOR", "NCCL_SPLIT_NOCOLOR")
	same("API_SCALAR_HOST", "ncclScalarHostImmediate")
	same("API_CONFIG_UNDEF_INT", "NCCL_CONFIG_UNDEF_INT")
	same("API_CONFIG_VERSION", "NCCL_VERSION_CODE")
	same("sizeof(api_config)", "sizeof(ncclConfig_t)")
	for _, field := range []string{"size", "magic", "version", "blocking", "cgaClusterSize", "minCTAs", "maxCTAs", "netName", "splitShare",
		"trafficClass", "commName", "collnetEnable", "CTAPolicy", "shrinkShare", "nvlsCTAs", "nChannelsPerNetPeer", "nvlinkCentricSched"} {
		same("offsetof(api_config, "+field+")", "offsetof(ncclConfig_t, "+field+")")
		same("sizeof(((api_config *)0)->"+field+")", "sizeof(((ncclConfig_t *)0)->"+field+")")
	}
	for name, r := range map[string]Result{"ncclSuccess": Success, "ncclUnhandledCudaError": ErrCUDA, "ncclSystemError": ErrSystem,
		"ncclInternalError": ErrInternal, "ncclInvalidArgument": ErrArgument, "ncclInvalidUsage": ErrUsage, "ncclRemoteError": ErrRemote,
		"ncclInProgress": ErrInProgress} {
		same(int32(r), name)
	}
	for name, ty := range map[string]DataType{"ncclInt8": Int8, "ncclUint8": Uint8, "ncclInt32": Int32, "ncclUint32": Uint32, "ncclInt64": Int64,
		"ncclUint64": Uint64, "ncclFloat16": Float16, "ncclFloat32": Float32, "ncclFloat64": Float64, "ncclBfloat16": Bfloat16,
		"ncclFloat8e4m3": Float8E4M3, "ncclFloat8e5m2": Float8E5M2} {
		same(int32(ty), name)
	}
	for name, op := range map[string]RedOp{"ncclSum": Sum, "ncclProd": Prod, "ncclMax": Max, "ncclMin": Min, "ncclAvg": Avg} {
		same(int32(op), name)
	}
	// The initialisers byte for byte, and the functions' parameters (theirs are enums and structs of the same size, hence the counts).
	b.WriteString("static api_config ours = API_CONFIG_INITIALIZER;\nstatic ncclConfig_t theirs = NCCL_CONFIG_INITIALIZER;\n")
	b.WriteString("int main(void) { return __builtin_memcmp(&ours, &theirs, sizeof ours); }\n")
	same("sizeof(ncclResult_t)", "sizeof(int)")
	same("sizeof(ncclDataType_t)", "sizeof(int)")
	same("sizeof(ncclRedOp_t)", "sizeof(int)")
	same("sizeof(ncclScalarResidence_t)", "sizeof(int)")
	// Each function is called with what api.h says that it takes: the compiler refuses another number, or a pointer for a number.
	text, err := os.ReadFile("api.h")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^    (?:int|const char \*) ?\(\*(\w+)\)\((.*)\);$`).FindAllStringSubmatch(string(text), -1)
	for i, name := range append(append([]string(nil), required...), newer...) {
		if i >= len(found) || "nccl"+found[i][1] != name {
			t.Fatalf("function %d of struct api is not %s: the names in library.go are in another order", i, name)
		}
		var arguments []string
		for _, kind := range strings.Split(found[i][2], ", ") {
			switch kind {
			case "void":
			case "api_unique_id":
				arguments = append(arguments, "*(ncclUniqueId *)0")
			case "api_unique_id *", "api_config *", "api_comm *", "int *": // structs that are held above, and enums
				arguments = append(arguments, "(void *)0")
			default:
				arguments = append(arguments, "("+kind+")0")
			}
		}
		fmt.Fprintf(&b, "__typeof__(%s(%s)) result%d;\n", name, strings.Join(arguments, ", "), i)
	}
	if want := len(required) + len(newer); len(found) != want {
		t.Fatalf("struct api has %d functions, library.go %d", len(found), want)
	}
	return b.String()
}

func init() {
	roles["real"] = func() error {
		l, err := Open()
		if err != nil {
			return err
		}
		told := map[string]any{"version": l.Version(), "string": l.VersionString(), "path": l.Path(), "split": l.hasSplit, "mem": l.hasMem, "register": l.hasRegister}
		texts := []string{}
		for r := Success; r <= ErrInProgress; r++ {
			texts = append(texts, l.ErrorString(r))
		}
		told["texts"] = texts
		id, err := l.NewUniqueID()
		if err != nil {
			return err
		}
		told["id"] = id != UniqueID{}
		comm, err := l.NewComm(id, 0, 1, Config{Name: "test"})
		if err == nil {
			err = comm.Await(patience)
			comm.Abort()
		}
		var e *Error
		told["typed"], told["cuda"] = errors.As(err, &e), errors.Is(err, ErrCUDA) || errors.Is(err, ErrSystem)
		told["error"] = fmt.Sprint(err)
		return json.NewEncoder(os.Stdout).Encode(told)
	}
	roles["open"] = func() error {
		_, err := Open()
		fmt.Println(err)
		return nil
	}
	roles["driver"] = func() error {
		r, err := cuda.Open()
		if err == nil {
			_, err = r.DeviceCount()
		}
		fmt.Println(err, errors.Is(err, cuda.ErrNoDriver), errors.Is(err, cuda.ErrNoDevice))
		return nil
	}
}

// The real libnccl, on a machine that may have no GPU.
func TestRealLibrary(t *testing.T) {
	library := filepath.Join(wheel(t, "13"), "nvidia", "nccl", "lib", "libnccl.so.2")
	cmd, out := role(t, "real", "NCCL_LIBRARY="+library, "CUDA_VISIBLE_DEVICES=")
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var told struct {
		Version                               int
		String, Path, Error                   string
		Texts                                 []string
		ID, Typed, CUDA, Split, Mem, Register bool
	}
	if err := json.Unmarshal(out.Bytes()[strings.LastIndexByte(strings.TrimSpace(out.String()), '\n')+1:], &told); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if told.Version < 22800 || told.String == "" || told.Path != library || !told.ID || !told.Split || !told.Mem || !told.Register {
		t.Errorf("told %+v", told)
	}
	seen := map[string]bool{}
	for _, text := range told.Texts {
		if text == "" || seen[text] {
			t.Errorf("error strings are not told apart: %q", told.Texts)
		}
		seen[text] = true
	}
	if !told.Typed || !told.CUDA || !strings.Contains(told.Error, "ncclCommInitRankConfig") && !strings.Contains(told.Error, "ncclCommGetAsyncError") {
		t.Errorf("joining without a GPU: %q", told.Error)
	}
	t.Log(told.Version, told.Error)
}

// compile makes a shared library of C's text.
func compile(t *testing.T, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	source, library := filepath.Join(dir, "a.c"), filepath.Join(dir, name)
	if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", library, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return library
}

// What is missing or too old is one sentence that says what to install.
func TestMissingAndOld(t *testing.T) {
	old := compile(t, "libnccl.so.2", "int ncclGetVersion(int *v) { *v = 21004; return 0; }")
	other := compile(t, "libother.so", "int other;")
	broken := filepath.Join(t.TempDir(), "libnccl.so.2")
	if err := os.WriteFile(broken, []byte("no library"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, role  string
		environment []string
		want        []string
	}{
		{"old", "open", []string{"NCCL_LIBRARY=" + old}, []string{"is NCCL 2.10.4, which has no ncclGetUniqueId", "pip install nvidia-nccl-cu13", "2.14 or later"}},
		{"other", "open", []string{"NCCL_LIBRARY=" + other}, []string{"which has no ncclGetVersion", "pip install"}},
		{"no such file", "open", []string{"NCCL_LIBRARY=/nowhere/libnccl.so.2"}, []string{"NCCL_LIBRARY=/nowhere/libnccl.so.2 cannot be opened", "unset it"}},
		{"damaged", "open", []string{"NCCL_LIBRARY=" + broken}, []string{"cannot be opened", "unset it"}},
		{"none", "open", []string{"NCCL_LIBRARY=", "PATH=", "LIBTORCH="}, []string{"no libnccl.so.2 on the loader's path", "pip install nvidia-nccl-cu13"}},
		{"no GPU", "driver", []string{"LOOPBACK_DEVICES=0"}, []string{"no CUDA-capable device", "device: cpu", "false true"}},
		{"no runtime", "driver", []string{"CUDART_LIBRARY=", "PATH=", "LIBTORCH="}, []string{"no libcudart.so.13 on the loader's path", "pip install nvidia-cuda-runtime"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd, out := role(t, c.role, c.environment...)
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q lacks %q", out, want)
				}
			}
			if strings.Count(out.String(), "\n") != 1 {
				t.Errorf("not one line: %q", out)
			}
		})
	}
}

// The real CUDA runtime, on a machine without a driver.
func TestNoDriver(t *testing.T) {
	if _, err := os.Stat("/proc/driver/nvidia/version"); err == nil {
		t.Skip("this machine has NVIDIA's driver")
	}
	files, _ := filepath.Glob(filepath.Join(os.Getenv("DDPRUN_CUDART"), "libcudart.so.1*"))
	if len(files) == 0 {
		t.Skip("DDPRUN_CUDART names no folder with libcudart.so: eval \"$(scripts/nccl-wheels.sh)\", or make test")
	}
	cmd, out := role(t, "driver", "CUDART_LIBRARY="+files[0])
	if err := cmd.Run(); err != nil || !strings.Contains(out.String(), "install NVIDIA's driver") || !strings.HasSuffix(out.String(), " true false\n") {
		t.Errorf("%v: %s", err, out)
	}
}
