// Package kit is what tests of the programs share: the programs, a small model for them to train, and texts of the words that it knows.
package kit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Build builds ddprun and ddprun-worker from this checkout into dir. It is called by a test beside this package.
func Build(dir string) error {
	if os.Getenv("CGO_CXXFLAGS") == "" { // the compiler takes minutes to find that out
		return errors.New(`these tests build ddprun-worker, so they want the build environment: eval "$(scripts/env.sh)"`)
	}
	for _, program := range []struct{ name, cgo string }{{"ddprun", "0"}, {"ddprun-worker", "1"}} {
		build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, program.name), "../../cmd/"+program.name)
		build.Env = append(os.Environ(), "CGO_ENABLED="+program.cgo)
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", program.name, err, out)
		}
	}
	return nil
}
