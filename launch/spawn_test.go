package launch

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestWorkersInheritFourDescriptorsAndBlockedSignals(t *testing.T) {
	// One that this process has inherited, as from a shell: not close-on-exec.
	leak, err := syscall.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(leak)
	_, out, _ := runScripts(t, agentConfig{Scripts: scripts{{"facts; done"}}, NProc: 1}, nil)
	allowed := []string{"fd 0 /dev/null", "fd 1 pipe:", "fd 2 pipe:", "eventpoll", "eventfd", "/proc/", "/sys/fs/cgroup"}
	for _, line := range strings.Split(out, "\n") {
		line = strings.TrimPrefix(line, "[rank 0] ")
		known := !strings.HasPrefix(line, "fd ")
		for _, a := range allowed {
			known = known || strings.Contains(line, a)
		}
		// The runtime's copy of descriptor 3 (net.FileConn) is the worker's own.
		if _, target, _ := strings.Cut(strings.TrimPrefix(line, "fd "), " "); target == "" {
			continue // the descriptor with which the list was read
		}
		if !known && !strings.Contains(line, "socket:") {
			t.Errorf("inherited: %s", line)
		}
	}
	var blocked uint64
	_, mask, _ := strings.Cut(out, "SigBlk:\t")
	fmt.Sscanf(mask, "%x", &blocked)
	for _, s := range []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2} {
		if blocked&(1<<(s.(syscall.Signal)-1)) == 0 {
			t.Errorf("%v is not blocked: mask %x", s, blocked)
		}
	}
}
