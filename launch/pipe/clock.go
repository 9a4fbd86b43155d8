package pipe

import (
	"time"

	"golang.org/x/sys/unix"
)

// Boottime is the clock of leases, the same in all processes of a node: CLOCK_BOOTTIME, which nobody sets and which goes on while the machine sleeps.
func Boottime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err) // Linux has had it since 2.6.39
	}
	return time.Duration(t.Nano())
}
