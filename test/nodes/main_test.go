package nodes

import (
	"os"
	"runtime"
	"testing"
)

// roleVariable names what this program is, where it is not the tests: the tests start it again inside namespaces.
const roleVariable = "DDPRUN_NODES_ROLE"

var roles = map[string]func(args []string) int{
	"host":   hostMain,   // PID 1 of a host
	"clock":  clockMain,  // sets clocks apart and becomes another program
	"probe":  probeMain,  // talks to its like on other hosts
	"victim": victimMain, // tests that are killed themselves
}

func init() {
	if os.Getenv(roleVariable) != "" {
		runtime.LockOSThread() // so main stays on the first thread, whose namespaces /proc/self shows
	}
}

func TestMain(m *testing.M) {
	if role := roles[os.Getenv(roleVariable)]; role != nil {
		os.Unsetenv(roleVariable)
		os.Exit(role(os.Args[1:]))
	}
	os.Exit(m.Run())
}
