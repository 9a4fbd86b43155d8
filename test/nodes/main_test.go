package nodes

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ddprun/ddprun/test/kit"
)

// roleVariable names what this program is, where it is not the tests: the tests start it again inside namespaces.
const roleVariable = "DDPRUN_NODES_ROLE"

var roles = map[string]func(args []string) int{
	"host":      hostMain,      // PID 1 of a host
	"container": containerMain, // holds a program that is PID 1 of its own
	"first":     firstMain,     // and becomes that
	"clock":     clockMain,     // sets clocks apart and becomes another program
	"probe":     probeMain,     // talks to its like on other hosts
	"victim":    victimMain,    // tests that are killed themselves
}

func init() {
	if os.Getenv(roleVariable) != "" {
		runtime.LockOSThread() // so main stays on the first thread, whose namespaces /proc/self shows
	}
}

// long tells whether the long tier of the tests is asked for.
var long = os.Getenv("DDPRUN_TEST_ALL") == "1"

// number is the value of a variable, or what it is without.
func number(variable string, otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(variable), 10, 64); err == nil {
		return n
	}
	return otherwise
}

var (
	seed   = number("DDPRUN_NODES_SEED", uint64(time.Now().UnixNano())) // of everything that is drawn
	repeat = number("DDPRUN_NODES_REPEAT", 1)                           // times that each fault comes in each phase
)

func TestMain(m *testing.M) {
	if role := roles[os.Getenv(roleVariable)]; role != nil {
		os.Unsetenv(roleVariable)
		os.Exit(role(os.Args[1:]))
	}
	fmt.Println("DDPRUN_NODES_SEED =", seed)
	code := m.Run()
	printFailures()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

var built struct {
	once sync.Once
	dir  string
	err  error
}

// programs returns the directory of ddprun and ddprun-worker, which it builds from this checkout once.
func programs(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("DDPRUN_NODES_PROGRAMS"); dir != "" { // programs of another build
		return dir
	}
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "ddprun-nodes-"); built.err == nil {
			built.err = kit.Build(built.dir)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.dir
}
