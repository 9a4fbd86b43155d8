package nodes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// slowCable stands between a host's cable and the bridge: each frame waits, and some are lost, both ways.
type slowCable struct {
	h      *host
	ends   [2]*os.File // raw sockets: the port of the host, and the inner end of a pair of veth whose outer end is in the bridge
	ending sync.WaitGroup
}

// slowDown has each frame from and to the host delayed, and a share of them lost. What tc netem does in kernels that have it. speedUp ends it.
func (h *host) slowDown(delay time.Duration, loss float64, seed uint64) {
	h.c.t.Helper()
	s := &slowCable{h: h}
	h.must("slow down", s.open())
	for i := range s.ends {
		s.ending.Add(1)
		go s.carry(s.ends[i], s.ends[1-i], delay, loss, rand.New(rand.NewPCG(seed, uint64(i))))
	}
	h.slow = s
}

func (h *host) speedUp() {
	h.c.t.Helper()
	h.slow.close()
	h.slow = nil
	port, err := h.c.net.LinkByName(h.port())
	h.must("speed up", err)
	bridge, err := h.c.net.LinkByName(bridgeName)
	h.must("speed up", err)
	h.must("speed up", h.c.net.LinkSetMaster(port, bridge))
	h.must("speed up", h.room.do(func() error { return offload(cableName, 1) }))
}

func (s *slowCable) outer() string { return fmt.Sprint("slow", s.h.number) }
func (s *slowCable) inner() string { return fmt.Sprint("wire", s.h.number) }

func (s *slowCable) open() error {
	wires := s.h.c.net
	bridge, err := wires.LinkByName(bridgeName)
	if err != nil {
		return err
	}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: s.outer(), MasterIndex: bridge.Attrs().Index}, PeerName: s.inner()}
	if err := wires.LinkAdd(pair); err != nil {
		return err
	}
	port, err := wires.LinkByName(s.h.port())
	if err != nil {
		return err
	}
	inner, err := wires.LinkByName(s.inner())
	if err != nil {
		return err
	}
	// Frames must be whole when they come to the raw sockets: no checksum left to do, none larger than the cable takes.
	if err := s.h.room.do(func() error { return offload(cableName, 0) }); err != nil {
		return err
	}
	if err := s.h.c.wires.do(func() error { return offload(s.outer(), 0) }); err != nil {
		return err
	}
	for _, link := range []netlink.Link{pair, inner} {
		if err := wires.LinkSetUp(link); err != nil {
			return err
		}
	}
	if err := wires.LinkSetNoMaster(port); err != nil {
		return err
	}
	for i, link := range []netlink.Link{port, inner} {
		err := s.h.c.wires.do(func() (err error) {
			s.ends[i], err = rawSocket(link.Attrs().Index)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *slowCable) close() {
	for _, end := range s.ends {
		end.Close()
	}
	s.ending.Wait()
	if pair, err := s.h.c.net.LinkByName(s.outer()); err == nil {
		s.h.c.net.LinkDel(pair)
	}
}

// carry takes frames over, in order, until a socket is closed.
func (s *slowCable) carry(from, to *os.File, delay time.Duration, loss float64, draw *rand.Rand) {
	defer s.ending.Done()
	type frame struct {
		due   time.Time
		bytes []byte
	}
	waiting := make(chan frame, 1<<14) // a longer queue loses what comes, as a switch's does
	s.ending.Go(func() {
		for f := range waiting {
			time.Sleep(time.Until(f.due))
			to.Write(f.bytes) // to a port that is down: lost
		}
	})
	defer close(waiting)
	buffer := make([]byte, 1<<16)
	for {
		n, open := receive(from, buffer)
		if !open {
			return
		} else if n == 0 || draw.Float64() < loss {
			continue
		}
		select {
		case waiting <- frame{time.Now().Add(delay), append([]byte(nil), buffer[:n]...)}:
		default:
		}
	}
}

// receive reads a frame that came in. 0 bytes: it was one that went out, or the port is down. Not open: the socket is closed.
func receive(from *os.File, buffer []byte) (n int, open bool) {
	raw, err := from.SyscallConn()
	if err != nil {
		return 0, false
	}
	var sender unix.Sockaddr
	err = raw.Read(func(fd uintptr) bool {
		var failed error
		n, sender, failed = unix.Recvfrom(int(fd), buffer, 0)
		return !errors.Is(failed, unix.EAGAIN)
	})
	if link, ok := sender.(*unix.SockaddrLinklayer); ok && link.Pkttype == unix.PACKET_OUTGOING {
		n = 0
	}
	return max(n, 0), err == nil
}

// rawSocket gets and sends whole frames of a link of the calling thread's network.
func rawSocket(link int) (*os.File, error) {
	everything := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(everything))
	if err != nil {
		return nil, fmt.Errorf("open a raw socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: link}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind a raw socket: %w", err)
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	return os.NewFile(uintptr(fd), "raw socket"), nil
}

// offload switches on (1) or off (0) what a link of the calling thread's network leaves to the card: checksums and cutting into segments.
func offload(name string, value uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const setChecksum, setSegmentation, setGeneric = 0x17, 0x1f, 0x24 // ETHTOOL_STXCSUM, STSO, SGSO
	for _, command := range []uint32{setChecksum, setSegmentation, setGeneric} {
		request := struct{ command, value uint32 }{command, value}
		ifreq := struct {
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			rest [16]byte
		}{data: unsafe.Pointer(&request)}
		copy(ifreq.name[:], name)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifreq))); errno != 0 {
			return fmt.Errorf("set offloading of %s: %w", name, errno)
		}
	}
	return nil
}
