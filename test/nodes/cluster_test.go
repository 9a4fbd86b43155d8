package nodes

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// cluster is a bridge and the hosts on it.
type cluster struct {
	t     testing.TB
	dir   string // on all hosts; each host's own files lie in it too
	wires *room  // the namespace of the bridge and of the far ends of the hosts' cables
	net   *netlink.Handle
	hosts []*host
	made  int // hosts so far, those that are gone included
}

const bridgeName = "bridge"

// newCluster has n hosts named host0 and so on. The test is skipped where there cannot be any.
func newCluster(t testing.TB, n int) *cluster {
	t.Helper()
	t = witness{t}
	c, err := openCluster(t, t.TempDir())
	if errors.Is(err, unix.EPERM) {
		t.Skipf("no namespaces: %v (wants root, CAP_SYS_ADMIN and CAP_NET_ADMIN)", err)
	} else if errors.Is(err, unix.EOPNOTSUPP) {
		t.Skipf("no bridge: %v (wants a kernel with CONFIG_BRIDGE)", err)
	} else if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		c.add(fmt.Sprint("host", i))
	}
	return c
}

func openCluster(t testing.TB, dir string) (*cluster, error) {
	c := &cluster{t: t, dir: dir}
	var err error
	if c.wires, err = newRoom(enterNewNet); err != nil {
		return nil, fmt.Errorf("unshare the network: %w", err)
	}
	t.Cleanup(c.close)
	if c.net, err = c.wires.netlink(); err != nil {
		return nil, err
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}
	if err := c.net.LinkAdd(bridge); err != nil {
		return nil, fmt.Errorf("add a bridge: %w", err)
	}
	return c, c.net.LinkSetUp(bridge)
}

// close powers everything off. The namespaces end with what was in them.
func (c *cluster) close() {
	for _, h := range c.hosts {
		h.powerOff()
	}
	if c.net != nil {
		c.net.Close()
	}
	c.wires.close()
}

// add makes a host, with an address that no other has had, and tells it to all.
func (c *cluster) add(name string) *host {
	c.t.Helper()
	h := c.newHost(name, c.made)
	c.made++
	c.hosts = append(c.hosts, h)
	c.name()
	h.boot()
	return h
}

// address returns the nth address of the cluster's network.
func address(n int) net.IP { return net.IPv4(10, 77, byte(n/200), byte(10+n%200)).To4() }

// name writes each host's /etc/hosts: its own name stands for 127.0.1.1 as on Debian, the others' for their addresses.
func (c *cluster) name() {
	c.t.Helper()
	for _, h := range c.hosts {
		var b strings.Builder
		fmt.Fprintf(&b, "127.0.0.1 localhost\n127.0.1.1 %s\n", h.name)
		for _, other := range c.hosts {
			if other != h && !other.off && !other.replaced {
				fmt.Fprintf(&b, "%v %s\n", other.ip, other.name)
			}
		}
		if err := os.WriteFile(h.path("hosts"), []byte(b.String()), 0o644); err != nil { // in place: it is mounted over /etc/hosts
			c.t.Fatal(err)
		}
	}
}

// path is a file in the directory that all hosts share.
func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

// room is an OS thread in namespaces of its own. What is to be done there is done by it.
type room struct {
	calls chan func()
	net   netns.NsHandle
}

// newRoom starts the thread, which enters the namespaces first. enter returns that of the network.
func newRoom(enter func() (netns.NsHandle, error)) (*room, error) {
	r := &room{calls: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the runtime ends the thread with the goroutine
		var err error
		r.net, err = enter()
		ready <- err
		if err != nil {
			return
		}
		for call := range r.calls {
			call()
		}
	}()
	if err := <-ready; err != nil {
		return nil, err
	}
	return r, nil
}

// do runs f on the thread.
func (r *room) do(f func() error) error {
	done := make(chan error)
	r.calls <- func() { done <- f() }
	return <-done
}

// netlink returns a handle to the room's network, for use on any thread.
func (r *room) netlink() (*netlink.Handle, error) {
	return netlink.NewHandleAt(r.net, unix.NETLINK_ROUTE)
}

func (r *room) close() {
	close(r.calls)
	r.net.Close()
}

func enterNewNet() (netns.NsHandle, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return netns.None(), err
	}
	return netns.Get()
}

// enterAll returns an enter of newRoom into the namespaces of process pid.
func enterAll(pid int) func() (netns.NsHandle, error) {
	return func() (netns.NsHandle, error) {
		network, err := netns.GetFromPid(pid)
		if err != nil {
			return network, err
		}
		if err := unix.Unshare(unix.CLONE_FS); err != nil { // else the mounts cannot be entered
			return network, err
		}
		for _, kind := range []string{"net", "uts", "ipc", "pid", "mnt"} { // mnt last: its /proc is another
			fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return network, err
			}
			err = unix.Setns(fd, 0)
			unix.Close(fd)
			if err != nil {
				return network, fmt.Errorf("enter the %s namespace of process %d: %w", kind, pid, err)
			}
		}
		return network, nil
	}
}
