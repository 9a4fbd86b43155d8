package launch

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sweepTimeout bounds the killing of processes that keep starting others.
const sweepTimeout = 5 * time.Second

// killMarked kills every process, this one apart, whose environment holds mark, until none is left: those that workers
// have started and that have left their process group.
func killMarked(mark string) error {
	for end := time.Now().Add(sweepTimeout); ; time.Sleep(5 * time.Millisecond) {
		left := marked(mark)
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("launch: processes %v, started by workers, cannot be killed", left)
		}
		for _, pid := range left {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// marked returns the processes whose environment, as it was when they started their program, holds mark. The dead that
// nobody has reaped yet have none, and that of other users cannot be read.
func marked(mark string) []int {
	var found []int
	variable := []byte(envMark + "=" + mark)
	for _, pid := range processes() {
		env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
		if err == nil && bytes.Contains(env, variable) && pid != os.Getpid() {
			found = append(found, pid)
		}
	}
	return found
}

// processes lists the process ids in /proc.
func processes() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// reaper reaps the orphans that become this process's children: as a subreaper it inherits those of its workers, as PID 1
// those of the whole container.
type reaper struct {
	spawner *spawner
	signals chan os.Signal
	ended   chan struct{}
}

func newReaper(s *spawner) (*reaper, error) {
	r := &reaper{spawner: s, signals: make(chan os.Signal, 1), ended: make(chan struct{})}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("launch: become a subreaper: %w", err)
	}
	signal.Notify(r.signals, syscall.SIGCHLD)
	go func() {
		defer close(r.ended)
		for range r.signals {
			r.reap()
		}
	}()
	return r, nil
}

// close reaps what is there; orphans are no longer this process's.
func (r *reaper) close() {
	signal.Stop(r.signals)
	close(r.signals)
	<-r.ended
	r.reap()
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
}

// reap reaps every dead child that the spawner does not wait for. A child in this process's own group was started by
// other code here, which waits for it itself.
func (r *reaper) reap() {
	r.spawner.mu.Lock()
	defer r.spawner.mu.Unlock()
	self, group := os.Getpid(), syscall.Getpgrp()
	for _, pid := range processes() {
		p, ok := readStat(pid)
		if ok && p.parent == self && p.state == 'Z' && p.group != group && !r.spawner.children[pid] {
			syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		}
	}
}

// stat is what /proc/<pid>/stat says of a process (proc_pid_stat(5)).
type stat struct {
	state         byte
	parent, group int
}

func readStat(pid int) (stat, bool) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return stat{}, false
	}
	_, rest, _ := strings.Cut(string(data[bytes.LastIndexByte(data, ')')+1:]), " ") // the name may hold anything
	fields := strings.Fields(rest)
	if len(fields) < 3 {
		return stat{}, false
	}
	parent, err1 := strconv.Atoi(fields[1])
	group, err2 := strconv.Atoi(fields[2])
	return stat{fields[0][0], parent, group}, err1 == nil && err2 == nil
}
