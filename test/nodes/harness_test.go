package nodes

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The tests of this file show that each operation of the harness does what it says, and no more.

// listening has n hosts with an echo on each.
func listening(t *testing.T, n int) (*cluster, []*host, []*process) {
	t.Helper()
	c := newCluster(t, n)
	var echoes []*process
	for _, h := range c.hosts {
		echoes = append(echoes, h.listen())
	}
	return c, c.hosts, echoes
}

// wantBack waits until from reaches to again: addresses that nobody answered for are asked after a while.
func wantBack(t *testing.T, from, to *host) {
	t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		eventually(t, fmt.Sprintf("%s to reach %s by %s", from.name, to.name, network), t.Name, func() bool { return from.reaches(to, network) })
	}
}

// wantReach fails the test where from reaches to, by UDP or TCP, other than wanted.
func wantReach(t *testing.T, when string, from, to *host, want bool) {
	t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		if got := from.reaches(to, network); got != want {
			t.Errorf("%s: %s reaches %s by %s: %t", when, from.name, to.name, network, got)
		}
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	_, hosts, _ := listening(t, 3)
	for _, from := range hosts {
		for _, to := range hosts {
			if from != to {
				wantReach(t, "at first", from, to, true)
			}
		}
	}
	p := hosts[1].start(nil, "/bin/sh", "-c", "hostname; getent ahostsv4 host0; getent ahostsv4 host1; ls /sys/class/net /proc | tr '\n' ' '")
	p.wait()
	p.until(hosts[0].ip.String())
	p.until("127.0.1.1")
	if said := p.log(); !strings.Contains(said, "host1\n") {
		t.Errorf("the host name: %s", said)
	}
	if others := hosts[1].processes(""); len(others) != 1 {
		t.Errorf("%d processes on host1, want its echo alone", len(others))
	}
}

func TestCableCut(t *testing.T) {
	t.Parallel()
	_, hosts, _ := listening(t, 3)
	hosts[2].cut()
	wantReach(t, "cut", hosts[0], hosts[2], false)
	wantReach(t, "cut", hosts[2], hosts[1], false)
	wantReach(t, "cut", hosts[0], hosts[1], true)
	hosts[2].plug()
	wantBack(t, hosts[0], hosts[2])
	wantBack(t, hosts[2], hosts[1])
}

func TestPairCut(t *testing.T) {
	t.Parallel()
	_, hosts, _ := listening(t, 3)
	wantReach(t, "before", hosts[1], hosts[2], true) // the real hardware address is known
	cutPair(hosts[1], hosts[2])
	wantReach(t, "cut", hosts[1], hosts[2], false)
	wantReach(t, "cut", hosts[2], hosts[1], false)
	wantReach(t, "cut", hosts[0], hosts[1], true)
	wantReach(t, "cut", hosts[2], hosts[0], true)
	joinPair(hosts[1], hosts[2])
	wantBack(t, hosts[1], hosts[2])
	wantBack(t, hosts[2], hosts[1])
}

func TestOneWayLoss(t *testing.T) {
	t.Parallel()
	_, hosts, echoes := listening(t, 2)
	hosts[0].lose(hosts[1])
	if hosts[0].reaches(hosts[1], "udp") || hosts[1].reaches(hosts[0], "udp") {
		t.Error("an echo came over a way that loses everything")
	}
	if n := echoes[1].heard(hosts[0]); n > 0 {
		t.Errorf("host1 heard %d lines of host0 over the way that loses everything", n)
	}
	if n := echoes[0].heard(hosts[1]); n != 1 {
		t.Errorf("host0 heard %d lines of host1, want 1: the way back works", n)
	}
	hosts[0].find(hosts[1])
	wantBack(t, hosts[0], hosts[1])
}

func TestSlowCable(t *testing.T) {
	t.Parallel()
	const delay, loss, asked = 100 * time.Millisecond, 0.3, 40
	_, hosts, _ := listening(t, 3)
	hosts[0].slowDown(delay, 0, 1)
	for _, network := range []string{"udp", "tcp"} {
		if took := hosts[1].asks(hosts[0], network); took < 2*delay {
			t.Errorf("an echo by %s over a cable that takes %v came after %v", network, delay, took)
		}
	}
	if took := hosts[1].asks(hosts[2], "udp"); took == 0 || took > delay {
		t.Errorf("an echo over another cable came after %v", took)
	}
	hosts[0].speedUp()
	wantBack(t, hosts[1], hosts[0])
	if took := hosts[1].asks(hosts[0], "udp"); took == 0 || took > delay {
		t.Errorf("fast again: an echo came after %v", took)
	}
	hosts[0].slowDown(0, loss, 2)
	// All at once: each that is lost takes a while to say so.
	var questions []*process
	for range asked {
		questions = append(questions, hosts[1].probe("ask", "udp", net.JoinHostPort(hosts[0].ip.String(), probePort)))
	}
	came := 0
	for _, question := range questions {
		if question.wait() == 0 {
			came++
		}
	}
	// A question and its answer both come with probability 0.49; the bounds are 5 standard deviations away.
	if came < 4 || came > 35 {
		t.Errorf("with %v lost each way, %d of %d echoes came", loss, came, asked)
	}
}

func TestPowerOff(t *testing.T) {
	t.Parallel()
	_, hosts, echoes := listening(t, 2)
	child := hosts[1].start(nil, "/bin/sh", "-c", "trap '' TERM; sleep 1000 & sleep 1001")
	eventually(t, "its processes", child.log, func() bool { return len(hosts[1].processes("sleep")) == 2 })
	all := hosts[1].processes("")
	hosts[1].powerOff()
	echoes[1].wait()
	for _, pid := range all {
		if name, state := nameAndState(pid); state != "" && state != "Z" {
			t.Errorf("process %d (%s) outlives its host", pid, name)
		}
	}
	wantReach(t, "off", hosts[0], hosts[1], false)
	again := hosts[1].replace()
	again.listen()
	wantBack(t, hosts[0], again)
	hosts[0].start(nil, "/bin/sh", "-c", "getent ahostsv4 host1").until(again.ip.String())
}

func TestAnotherAddress(t *testing.T) {
	t.Parallel()
	_, hosts, _ := listening(t, 2)
	old := hosts[1].ip
	hosts[1].readdress()
	wantBack(t, hosts[0], hosts[1])
	hosts[1].ip, old = old, hosts[1].ip
	wantReach(t, "moved", hosts[0], hosts[1], false)
	hosts[1].ip = old
	p := hosts[0].start(nil, "/bin/sh", "-c", "getent ahostsv4 host1")
	p.until(old.String())
}

// Stopped processes neither answer nor end; they go on where they were. Zombies are reaped, also those of parents that are gone.
func TestProcessesOfHosts(t *testing.T) {
	t.Parallel()
	_, hosts, echoes := listening(t, 2)
	echoes[1].signal(syscall.SIGSTOP)
	if hosts[0].reaches(hosts[1], "udp") {
		t.Error("a stopped process answers")
	}
	echoes[1].signal(syscall.SIGCONT)
	wantBack(t, hosts[0], hosts[1])
	orphaned := hosts[0].start(nil, "/bin/sh", "-c", "(sleep 0.1 &)")
	orphaned.wait()
	eventually(t, "the orphan to be reaped", orphaned.log, func() bool {
		return !slices.ContainsFunc(allProcesses(), func(pid int) bool {
			name, _ := nameAndState(pid)
			home, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", hosts[0].pid))
			own, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
			return name == "sleep" && own == home
		})
	})
}

// victimMain is a test that will be killed: it has two hosts, with a process that does not mind anything on each.
func victimMain([]string) int {
	t := &victim{}
	c := newCluster(t, 2)
	for _, h := range c.hosts {
		h.slowDown(time.Second, 0, 1)
		h.start(nil, "/bin/sh", "-c", "trap '' TERM HUP INT; while true; do sleep 1000; done")
		eventually(t, "its processes", t.Name, func() bool { return len(h.processes("sleep")) == 1 })
		for _, pid := range append(h.processes(""), h.pid) {
			fmt.Println("process", pid)
		}
	}
	fmt.Println("up")
	select {}
}

// victim is a test outside of the tests.
type victim struct{ testing.TB }

func (*victim) Helper()        {}
func (*victim) Name() string   { return "victim" }
func (*victim) Cleanup(func()) {}
func (*victim) TempDir() string {
	return os.Getenv("VICTIM_DIR")
}
func (*victim) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (*victim) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (*victim) Skipf(format string, args ...any)  { panic(fmt.Sprintf(format, args...)) }

// A test that is killed leaves no process, and so no namespace, which is what its processes and open files hold alone.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	newCluster(t, 0) // skips where there cannot be hosts
	before, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	killed := exec.Command("/proc/self/exe")
	killed.Env = append(os.Environ(), roleVariable+"=victim", "VICTIM_DIR="+t.TempDir())
	killed.Stderr = os.Stderr
	out, err := killed.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for text := ""; text != "up"; {
		var pid int
		if _, err := fmt.Fscanln(out, &text, &pid); text == "process" && err == nil {
			pids = append(pids, pid)
		} else if text != "up" {
			t.Fatalf("the victim ends: %q %v", text, err)
		}
	}
	killed.Process.Kill()
	killed.Wait()
	if len(pids) < 6 {
		t.Errorf("the victim had %d processes on its hosts, want a first one, a shell and a sleep on each of 2", len(pids))
	}
	eventually(t, "the end of the victim's processes", func() string { return fmt.Sprint(pids) }, func() bool {
		return !slices.ContainsFunc(pids, func(pid int) bool {
			_, state := nameAndState(pid)
			return state != "" && state != "Z"
		})
	})
	after, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	if len(before) != len(after) {
		t.Errorf("the machine's network has other links than before: %v, %v", before, after)
	}
}
