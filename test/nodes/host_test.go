package nodes

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// host is a machine as programs see it.
type host struct {
	c      *cluster
	name   string
	number int
	ip     net.IP
	off    bool

	replaced bool // its name is another's now

	pid  int // of its PID 1, as the test sees it
	room *room
	net  *netlink.Handle
	end  func() // kills PID 1, and so everything on the host

	clock *clock // nil: the machine's
	slow  *slowCable
}

const cableName = "eth0" // the host's end

func (c *cluster) newHost(name string, number int) *host {
	h := &host{c: c, name: name, number: number, ip: address(number)}
	if err := os.MkdirAll(h.path(""), 0o755); err != nil {
		c.t.Fatal(err)
	}
	return h
}

// path is a file of the host's own.
func (h *host) path(name string) string {
	return h.c.path(filepath.Join(fmt.Sprint("host-", h.number), name))
}

// port names the far end of the host's cable.
func (h *host) port() string { return fmt.Sprint("port", h.number) }

// boot starts the host and plugs it in.
func (h *host) boot() {
	h.c.t.Helper()
	for _, step := range []func() error{h.startFirst, h.enter, h.plugIn} {
		if err := step(); err != nil {
			h.c.t.Fatalf("%s: %v", h.name, err)
		}
	}
}

// startFirst starts PID 1.
func (h *host) startFirst() error {
	first := exec.Command("/proc/self/exe", h.name, h.path("hosts"))
	first.Env = []string{roleVariable + "=host"}
	first.Stderr = os.Stderr
	first.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, // the thread is the wires'
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC}
	stdin, err := first.StdinPipe() // its end is the host's end, if the test is killed
	if err != nil {
		return err
	}
	stdout, err := first.StdoutPipe()
	if err != nil {
		return err
	}
	if err := h.c.wires.do(first.Start); err != nil {
		return err
	}
	h.pid = first.Process.Pid
	h.end = func() {
		first.Process.Kill()
		stdin.Close()
		first.Wait() // returns when all that was on the host is gone
	}
	if said, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		h.end()
		return fmt.Errorf("its first process ends: %q %w", said, err)
	}
	return nil
}

// enter opens the host's namespaces.
func (h *host) enter() (err error) {
	if h.room, err = newRoom(enterAll(h.pid)); err != nil {
		return err
	}
	h.net, err = h.room.netlink()
	return err
}

// plugIn lays the cable to the bridge.
func (h *host) plugIn() error {
	bridge, err := h.c.net.LinkByName(bridgeName)
	if err != nil {
		return err
	}
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: h.port(), MasterIndex: bridge.Attrs().Index},
		PeerName: cableName, PeerNamespace: netlink.NsFd(h.room.net)}
	if err := h.c.net.LinkAdd(cable); err != nil {
		return fmt.Errorf("add a pair of veth: %w", err)
	}
	if err := h.c.net.LinkSetUp(cable); err != nil {
		return err
	}
	for _, name := range []string{"lo", cableName} {
		link, err := h.net.LinkByName(name)
		if err != nil {
			return err
		}
		if err := h.net.LinkSetUp(link); err != nil {
			return err
		}
	}
	return h.setAddress(h.ip)
}

func (h *host) setAddress(ip net.IP) error {
	link, err := h.net.LinkByName(cableName)
	if err != nil {
		return err
	}
	return h.net.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(16, 32)}})
}

// powerOff ends the host at once: nothing that its processes would say while they die comes out. It does not come back; add makes another.
func (h *host) powerOff() {
	if h.off {
		return
	}
	h.off = true
	if h.slow != nil {
		h.slow.close()
	}
	if port, err := h.c.net.LinkByName(h.port()); err == nil {
		h.c.net.LinkSetDown(port)
	}
	h.end()
	if h.net != nil {
		h.net.Close()
	}
	if h.room != nil {
		h.room.close()
	}
}

// hostMain is PID 1 of a host: it makes the host's own view of the machine, and reaps.
func hostMain(args []string) int {
	if err := furnish(args[0], args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "host:", err)
		return 1
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	lost := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(lost)
	}()
	fmt.Println("ready")
	for {
		select {
		case <-lost:
			return 0
		case <-ended:
			for {
				if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 && !errors.Is(err, unix.EINTR) {
					break
				}
			}
		}
	}
}

// containerMain runs the program of args as PID 1 of namespaces of its own, and ends as that does.
func containerMain(args []string) int {
	first := exec.Command("/proc/self/exe", args...)
	first.Env = append(os.Environ(), roleVariable+"=first")
	first.Stdout, first.Stderr = os.Stdout, os.Stderr
	first.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	if err := first.Run(); err != nil && first.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "container:", err)
		return 1
	}
	return first.ProcessState.ExitCode()
}

// firstMain becomes the program of args, as PID 1 with a /proc of its own.
func firstMain(args []string) int {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if err == nil {
		err = unix.Mount("proc", "/proc", "proc", 0, "")
	}
	if err == nil {
		err = syscall.Exec(args[0], args, os.Environ())
	}
	fmt.Fprintln(os.Stderr, "first:", err)
	return 1
}

func furnish(name, hosts string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount /etc/hosts: %w", err)
	}
	return unix.Sethostname([]byte(name))
}

// processes returns what runs on the host with this name (comm), zombies left out, as the test's process numbers; "" for all but PID 1.
func (h *host) processes(comm string) []int {
	home, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", h.pid))
	if err != nil {
		return nil
	}
	var found []int
	for _, pid := range allProcesses() {
		namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		if err != nil || namespace != home || pid == h.pid {
			continue
		}
		name, state := nameAndState(pid)
		if state != "" && state != "Z" && state != "X" && (comm == "" || name == comm) {
			found = append(found, pid)
		}
	}
	return found
}

func allProcesses() []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// nameAndState returns a process's comm and state; empty: it is gone.
func nameAndState(pid int) (name, state string) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // pid (comm) state ppid ...; comm may hold anything
	if err != nil {
		return "", ""
	}
	open, shut := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
	return string(stat[open+1 : shut]), string(stat[shut+2 : shut+3])
}
