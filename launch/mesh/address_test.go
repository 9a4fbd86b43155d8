package mesh

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// startError is what Start says of a configuration that it refuses.
func startError(t *testing.T, c Config) error {
	t.Helper()
	m, err := Start(context.Background(), c, nil)
	if err == nil {
		m.Close()
	}
	return err
}

func TestAddressesThatAreRefused(t *testing.T) {
	noLeaks(t)
	for _, c := range []struct {
		listen, advertise, want string
	}{
		{"eth99", "", "neither an IP address nor an interface of this node (lo"},
		{"", "0.0.0.0", "not an address of one node"},
		{"", "fe80::1", "link-local"},
		{"", "own.invalid", "means 127.0.1.1"},
		{"", "unknown.invalid", "nor a host name"},
	} {
		config := config("0-a")
		config.Listen, config.Advertise = c.listen, c.advertise
		config.Resolve = func(_ context.Context, host string) ([]string, error) {
			if host == "own.invalid" {
				return []string{"127.0.1.1"}, nil
			}
			return nil, errors.New("no such host")
		}
		if err := startError(t, config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("--listen %q --advertise %q: %v", c.listen, c.advertise, err)
		}
	}
}

func TestInterfaceNamesStandForTheirAddresses(t *testing.T) {
	c := config("0-a")
	c.Listen, c.Advertise = "lo", "lo"
	if a := start(t, c, nil); a.Advertised() != "127.0.0.1" {
		t.Fatal(a.Advertised())
	}
}

func TestPortThatIsTaken(t *testing.T) {
	noLeaks(t)
	a := start(t, config("0-a"), nil)
	c := config("1-b")
	c.Port = a.port
	if err := startError(t, c); err == nil || !strings.Contains(err.Error(), "--port of its own") {
		t.Fatal(err)
	}
}

func TestIPv6(t *testing.T) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here:", err)
	} else {
		l.Close()
	}
	c := config("0-a")
	c.Listen, c.Advertise = "::1", "::1"
	a := start(t, c, nil)
	second := config("1-b")
	second.Listen, second.Advertise, second.Join = "::1", "::1", []string{a.Addr()}
	b := start(t, second, nil)
	b.sees("0-a")
	a.sees("1-b")
	if p := b.peer("0-a"); !strings.HasPrefix(p.Addr, "[::1]:") {
		t.Fatal(p.Addr)
	}
}

// A host name that means 127.0.1.1 on its own node, as Debian has it, is no other node, and its address is not the one to advertise.
func TestOwnNameMeansLoopback(t *testing.T) {
	own, err := ownAddresses()
	if err != nil || len(own) == 0 {
		t.Skip("this machine has loopback alone", err)
	}
	noLeaks(t)
	c := config("0-a")
	c.Listen, c.Advertise = "", ""
	c.Join = []string{"node0.invalid:29999"}
	c.Resolve = func(context.Context, string) ([]string, error) { return []string{"127.0.1.1"}, nil }
	a := start(t, c, nil)
	if ip := net.ParseIP(a.Advertised()); ip == nil || ip.IsLoopback() {
		t.Fatalf("advertised: %s", a.Advertised())
	}
}

// A name that no longer means anything keeps nobody out who is found by another one: not at the start, where this node's address depends on whom it joins, and not while the name is
// being looked for.
func TestNameThatIsGone(t *testing.T) {
	own, err := ownAddresses()
	if err != nil || len(own) == 0 {
		t.Skip("this machine has loopback alone", err)
	}
	noLeaks(t)
	first := config("0-a")
	first.Listen, first.Advertise = "", own[0].String()
	a := start(t, first, nil)
	_, port, err := net.SplitHostPort(a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	met := make(chan struct{})
	gone := func(ctx context.Context) ([]string, error) {
		select { // a resolver that does not answer, as long as the two have not met
		case <-met:
		case <-ctx.Done():
		}
		return nil, errors.New("no answer")
	}
	second := config("1-b")
	second.Listen, second.Advertise = "", ""
	second.Join = []string{"gone.invalid:" + port, "here.invalid:" + port, "gone-too.invalid:" + port}
	second.Resolve = func(ctx context.Context, host string) ([]string, error) {
		if host == "here.invalid" {
			return []string{own[0].String()}, nil
		}
		return gone(ctx)
	}
	b := start(t, second, nil)
	b.sees("0-a")
	a.sees("1-b")
	close(met)
	b.logs("not yet joined", "gone")
}

// A node that is known by its own name alone does not wait for one that is gone until --join-timeout, which is longer than any test waits.
func TestOtherNameIsGone(t *testing.T) {
	noLeaks(t)
	c := config("0-a")
	c.JoinTimeout, c.Join = 10*patience, []string{"here.invalid:29999", "gone.invalid:29999"}
	c.Resolve = func(_ context.Context, host string) ([]string, error) {
		if host == "here.invalid" {
			return []string{"127.0.1.1"}, nil
		}
		return nil, errors.New("no such host")
	}
	m := &Mesh{config: c, log: zerolog.Nop()}
	if _, ok := m.towardsJoin(t.Context(), []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}); ok {
		t.Error("an address was found")
	}
}

func TestAgentMayJoinItself(t *testing.T) {
	noLeaks(t)
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := probe.Addr().(*net.TCPAddr).Port
	probe.Close()
	c := config("0-a")
	c.Port, c.Join = port, []string{"127.0.0.1"}
	a := start(t, c, nil)
	second := config("1-b")
	second.Join = []string{a.Addr()}
	start(t, second, nil).sees("0-a")
	a.sees("1-b")
	if n := a.warnings(); n > 0 {
		t.Fatalf("warnings:\n%s", a.log)
	}
}

func TestSplitJoin(t *testing.T) {
	for entry, want := range map[string]string{
		"node0": "node0 5", "node0:7": "node0 7", "::1": "::1 5", "[::1]": "::1 5", "[::1]:7": "::1 7", "10.0.0.1:7": "10.0.0.1 7", "10.0.0.1": "10.0.0.1 5",
	} {
		host, port := splitJoin(entry, 5)
		if got := host + " " + string(rune('0'+port)); got != want {
			t.Errorf("%s: %s", entry, got)
		}
	}
}

// The kernel gives up a peer that does not acknowledge, on connections of both directions.
func TestUserTimeoutIsSet(t *testing.T) {
	s := sockets{}
	l, packets, _, err := s.listen("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	defer packets.Close()
	dialled, err := s.dial(context.Background(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialled.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	for name, conn := range map[string]net.Conn{"dialled": dialled, "accepted": accepted} {
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
			if err != nil || time.Duration(got)*time.Millisecond != userTimeout {
				t.Errorf("%s: %d ms %v", name, got, err)
			}
		})
	}
}
