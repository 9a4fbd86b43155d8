package nodes

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// clock is how far ahead of the machine's the clocks of a host are that count from its start (CLOCK_MONOTONIC and CLOCK_BOOTTIME). The wall clock is one for all: time
// namespaces do not have it.
type clock struct{ ahead time.Duration }

// nextRoleVariable is the role of the program that clockMain becomes, if that is this one.
const nextRoleVariable = "DDPRUN_NODES_NEXT_ROLE"

func (c *clock) String() string { return c.ahead.String() }

// clockMain sets the clocks and becomes a program: args are how far ahead, the program and its arguments.
func clockMain(args []string) int {
	ahead, err := time.ParseDuration(args[0])
	if err == nil {
		err = clockExec(ahead, args[1:])
	}
	fmt.Fprintln(os.Stderr, "clock:", err)
	return 1
}

func clockExec(ahead time.Duration, args []string) error {
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return fmt.Errorf("unshare the time: %w", err)
	}
	seconds := int64(ahead / time.Second)
	offsets := fmt.Sprintf("monotonic %d 0\nboottime %d 0\n", seconds, seconds)
	if err := os.WriteFile("/proc/self/timens_offsets", []byte(offsets), 0); err != nil {
		return err
	}
	os.Setenv(roleVariable, os.Getenv(nextRoleVariable))
	os.Unsetenv(nextRoleVariable)
	return syscall.Exec(args[0], args, os.Environ()) // enters the namespace, from Linux 6.3 on
}

// setClock lets all that is started on the host from now on have clocks that are so far ahead, at least a second. The test is skipped where that cannot be.
func (h *host) setClock(ahead time.Duration) {
	h.c.t.Helper()
	want := monotonic() + ahead
	h.clock = &clock{ahead}
	p := h.probe("clock")
	p.wait()
	var got time.Duration
	if l, ok := p.find(time.Time{}, "clock "); ok {
		fmt.Sscanf(l.text, "clock %d", &got)
	}
	if off := got - want; off < -ahead/2 || off > patience {
		h.c.t.Skipf("clocks cannot be set apart (wants CONFIG_TIME_NS and Linux 6.3): ahead by %v too much\n%s", off, p.log())
	}
}

// monotonic is CLOCK_MONOTONIC.
func monotonic() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return time.Duration(now.Nano())
}

func TestClocksApart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.hosts[0].setClock(1000 * time.Hour)
	listener := c.hosts[0].listen()
	if !c.hosts[1].reaches(c.hosts[0], "udp") {
		t.Errorf("a host with clocks ahead does not answer\n%s", listener.log())
	}
}
