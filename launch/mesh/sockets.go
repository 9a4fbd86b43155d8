package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// userTimeout is when the kernel gives up data that the other side does not acknowledge or has no room for. Silence is noticed before; this
// is for a peer that beats and does not read.
const userTimeout = 10 * time.Second

// udpBuffer is asked of the kernel for gossip, so that a burst is not lost while the cores are busy.
const udpBuffer = 2 << 20

// network is what the mesh stands on; tests have one in memory.
type network interface {
	// listen opens TCP and UDP on one port; 0: the kernel's choice. An empty host stands for all addresses.
	listen(host string, port int) (net.Listener, net.PacketConn, int, error)
	dial(ctx context.Context, addr string) (net.Conn, error) // IP:port
}

// sockets is the machine's network.
type sockets struct{ local string } // IP address to listen on and to dial from; empty: any

func (s sockets) listen(host string, port int) (net.Listener, net.PacketConn, int, error) {
	config := net.ListenConfig{KeepAlive: -1, Control: setUserTimeout} // beats keep connections alive; what is accepted inherits the option
	attempts := 1
	if port == 0 {
		attempts = 20 // the kernel chooses one that is free for TCP
	}
	var err error
	for range attempts {
		var l net.Listener
		l, err = config.Listen(context.Background(), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return nil, nil, 0, err
		}
		got := l.Addr().(*net.TCPAddr).Port
		var packets net.PacketConn
		packets, err = net.ListenPacket("udp", net.JoinHostPort(host, strconv.Itoa(got)))
		if err == nil {
			packets.(*net.UDPConn).SetReadBuffer(udpBuffer) // less is no error: packets may be lost
			return l, packets, got, nil
		}
		l.Close()
	}
	return nil, nil, 0, err
}

func (s sockets) dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1, Control: setUserTimeout}
	if local, err := netip.ParseAddr(s.local); err == nil {
		if to, err := netip.ParseAddrPort(addr); err == nil && to.Addr().Unmap().Is4() == local.Is4() {
			d.LocalAddr = &net.TCPAddr{IP: local.AsSlice()}
		}
	}
	return d.DialContext(ctx, "tcp", addr)
}

func setUserTimeout(network, _ string, raw syscall.RawConn) error {
	var err error
	control := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout/time.Millisecond))
	})
	if err = errors.Join(control, err); err != nil {
		return fmt.Errorf("%s: TCP_USER_TIMEOUT: %w", network, err)
	}
	return nil
}
