package e2e

import (
	"fmt"
	"os"
	"testing"

	"github.com/ddprun/ddprun/test/kit"
)

// binDir holds ddprun and ddprun-worker as built from this checkout.
var binDir string

// long tells whether the long tier of the tests is asked for.
var long = os.Getenv("DDPRUN_TEST_ALL") == "1"

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ddprun-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binDir = dir
	if err := kit.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
