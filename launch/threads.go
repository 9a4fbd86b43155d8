package launch

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// thread is what the kernel says of one thread of a process (proc_pid_stat(5)).
type thread struct {
	id    int
	name  string
	state byte   // R running, S asleep, D asleep and deaf to signals, T stopped, t stopped by a debugger
	waits string // the kernel's function in which it waits; empty where that is not told
}

// maxThreads bounds how many threads of a process are looked at.
const maxThreads = 256

// threadsOf lists the threads of a process; none if it has ended.
func threadsOf(pid int) []thread {
	tasks := filepath.Join("/proc", strconv.Itoa(pid), "task")
	entries, err := os.ReadDir(tasks)
	if err != nil {
		return nil
	}
	var threads []thread
	for _, entry := range entries[:min(len(entries), maxThreads)] {
		data, err := os.ReadFile(filepath.Join(tasks, entry.Name(), "stat"))
		open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
		if err != nil || open < 0 || end+2 >= len(data) {
			continue
		}
		t := thread{name: string(data[open+1 : end]), state: data[end+2]}
		t.id, _ = strconv.Atoi(entry.Name())
		if waits, err := os.ReadFile(filepath.Join(tasks, entry.Name(), "wchan")); err == nil && string(waits) != "0" {
			t.waits = string(waits)
		}
		threads = append(threads, t)
	}
	return threads
}

// uninterruptible says which threads of a process wait in the kernel so that nothing but the end of the wait ends them, as they do for a disk
// or a file server; empty: none.
func uninterruptible(pid int) string {
	waits := map[string]int{}
	var order []string
	for _, t := range threadsOf(pid) {
		if t.state == 'D' {
			if waits[t.waits] == 0 {
				order = append(order, t.waits)
			}
			waits[t.waits]++
		}
	}
	if len(order) == 0 {
		return ""
	}
	for i, where := range order {
		order[i] = fmt.Sprintf("%d in %s", waits[where], cmp.Or(where, "a place that is not told"))
	}
	return "; threads in uninterruptible waits, as for a disk or a file server: " + strings.Join(order, ", ")
}

// tracerOf returns the process that debugs pid; 0: none.
func tracerOf(pid int) int {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "\nTracerPid:")
	line, _, _ := strings.Cut(rest, "\n")
	tracer, _ := strconv.Atoi(strings.TrimSpace(line))
	return tracer
}
