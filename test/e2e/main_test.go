package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binDir holds ddprun and ddprun-worker as built from this checkout.
var binDir string

// long tells whether the long tier of the tests is asked for.
var long = os.Getenv("DDPRUN_TEST_ALL") == "1"

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	if os.Getenv("CGO_CXXFLAGS") == "" { // the compiler takes minutes to find that out
		fmt.Fprintln(os.Stderr, "these tests build ddprun-worker, so they want the build environment: eval \"$(scripts/env.sh)\"")
		return 1
	}
	dir, err := os.MkdirTemp("", "ddprun-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binDir = dir
	for _, program := range []struct{ name, cgo string }{{"ddprun", "0"}, {"ddprun-worker", "1"}} {
		build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, program.name), "../../cmd/"+program.name)
		build.Env = append(os.Environ(), "CGO_ENABLED="+program.cgo)
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", program.name, err, out)
			return 1
		}
	}
	return m.Run()
}
