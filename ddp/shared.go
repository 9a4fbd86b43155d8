package ddp

import (
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ddprun/ddprun/internal/torch"
)

// NewShared returns a group of inner's ranks, all on this node, that sums gradients ([NewParams]) in memory which the ranks share, and
// leaves the rest to inner. It takes over inner, also where it fails. Ranks meet in store; timeout bounds the meeting and every collective.
//
// A rank's memory is its own memfd, passed over a Unix socket: no name in a file system, no limit of /dev/shm, and nothing left behind
// by a rank that is killed. The same sockets carry the ranks' signals, so a peer's death is an error at once. Rank r sums the r-th part
// of a tensor in rank order and writes it to every rank: what a ring would copy through the kernel is read and written in place.
func NewShared(inner Group, store torch.Store, timeout time.Duration) (Group, error) {
	peers, err := meet(inner.Rank(), inner.Size(), store, timeout)
	if err != nil {
		inner.Close()
		return nil, fmt.Errorf("rank %d of %d: cannot share memory: %w", inner.Rank(), inner.Size(), err)
	}
	g := &sharedGroup{Group: inner, peers: peers, timeout: timeout, sums: make(chan *sharedSum, 64), lost: make(chan int, inner.Size()), ended: make(chan struct{})}
	for _, p := range peers {
		if p != nil {
			go p.receive(g.lost)
		}
	}
	go g.run()
	return g, nil
}

type sharedGroup struct {
	Group   // sums what is not in the shared memory, and does all else
	peers   []*peer
	timeout time.Duration

	memory [][]byte // rank r's, mapped here; none before zeros
	sums   chan *sharedSum
	lost   chan int      // peers that have hung up
	ended  chan struct{} // closed when run returns
	closed sync.Once
}

// sharedSum is an all-reduce of elements [at, at+n) of the shared memory.
type sharedSum struct {
	at, n int64
	done  chan error
	group *sharedGroup
}

// zeros returns this rank's n elements of float32 in shared memory, which lives until Close. Every rank calls it, once.
func (g *sharedGroup) zeros(n int64) (torch.Tensor, error) {
	if g.memory != nil {
		return torch.Tensor{}, errors.New("ddp: a group shares the gradients of one Params only")
	}
	err := g.share(n * 4)
	if err != nil {
		return torch.Tensor{}, fmt.Errorf("rank %d of %d: cannot share %d bytes of gradients: %w", g.Rank(), g.Size(), n*4, err)
	}
	var t torch.Tensor
	err = torch.Do(func(s *torch.Scope) error {
		t = s.Move(s.FromMemory(torch.Float32, unsafe.Pointer(unsafe.SliceData(g.memory[g.Rank()])), n))
		return nil
	})
	return t, err
}

// share maps every rank's memory of size bytes.
func (g *sharedGroup) share(size int64) error {
	g.memory = make([][]byte, g.Size())
	fd, err := unix.MemfdCreate("ddprun-gradients", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("memfd_create: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, size); err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	// A peer cannot shrink what is mapped here.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	if g.memory[g.Rank()], err = mapShared(fd, size); err != nil {
		return err
	}
	for _, p := range g.peers {
		if p == nil {
			continue
		}
		if err := p.send(message{kind: sharesMemory, n: size}, fd); err != nil {
			return err
		}
	}
	for rank, p := range g.peers {
		if p == nil {
			continue
		}
		theirs, err := p.expect(message{kind: sharesMemory, n: size}, g.timeout, g.lost)
		if err != nil {
			return err
		}
		g.memory[rank], err = mapShared(theirs, size)
		unix.Close(theirs)
		if err != nil {
			return err
		}
	}
	return nil
}

func mapShared(fd int, size int64) ([]byte, error) {
	memory, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap of a memfd of %d bytes: %w", size, err)
	}
	return memory, nil
}

func (g *sharedGroup) AllReduce(t torch.Tensor) (Work, error) {
	at, n, ok := g.find(t)
	if !ok {
		return g.Group.AllReduce(t)
	}
	sum := &sharedSum{at: at, n: n, done: make(chan error, 1), group: g}
	g.sums <- sum
	return sum, nil
}

// find returns where t lies in this rank's shared memory, in elements.
func (g *sharedGroup) find(t torch.Tensor) (at, n int64, ok bool) {
	if g.memory == nil || t.DType() != torch.Float32 {
		return 0, 0, false
	}
	mine := g.memory[g.Rank()]
	// Below the base, the difference wraps around and is larger than any size.
	offset := uintptr(unsafe.Pointer(unsafe.SliceData(t.Float32s()))) - uintptr(unsafe.Pointer(unsafe.SliceData(mine)))
	if offset >= uintptr(len(mine)) {
		return 0, 0, false
	}
	return int64(offset / 4), t.Numel(), true
}

// Wait returns when the sum is there on every rank.
func (s *sharedSum) Wait() error {
	if err := <-s.done; err != nil {
		return fmt.Errorf("rank %d of %d: all-reduce failed, a peer is gone or silent: %w", s.group.Rank(), s.group.Size(), err)
	}
	return nil
}

// run does the sums one after another. After one has failed, the others fail in the same way.
func (g *sharedGroup) run() {
	defer close(g.ended)
	var err error
	for sum := range g.sums {
		if err == nil {
			err = g.add(sum.at, sum.n)
		}
		sum.done <- err
	}
}

// add sums elements [at, at+n) over the ranks: when all are ready this rank sums its part, and when all are done the sum is whole.
func (g *sharedGroup) add(at, n int64) error {
	if err := g.agree(message{kind: ready, at: at, n: n}); err != nil {
		return err
	}
	part := (n/int64(g.Size()) + align) / align * align // at least n in all; whole cache lines
	lo := min(n, part*int64(g.Rank()))
	hi := min(n, lo+part)
	rows := make([][]float32, g.Size())
	for rank, memory := range g.memory {
		rows[rank] = unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(memory))), len(memory)/4)[at+lo : at+hi]
	}
	sumRows(rows)
	return g.agree(message{kind: done, at: at, n: n})
}

// agree tells every peer m and waits until each has told the same.
func (g *sharedGroup) agree(m message) error {
	for _, p := range g.peers {
		if p == nil {
			continue
		}
		if err := p.send(m, noFile); err != nil {
			return err
		}
	}
	lost := g.lost
	if m.kind == done {
		lost = nil // who has told this may leave
	}
	for _, p := range g.peers {
		if p == nil {
			continue
		}
		if _, err := p.expect(m, g.timeout, lost); err != nil {
			return err
		}
	}
	return nil
}

// sumRows replaces each of the rows, all of one length, by their sum, added in order. It works in pieces that stay in the first cache.
func sumRows(rows [][]float32) {
	var piece [2048]float32
	for at := 0; at < len(rows[0]); at += len(piece) {
		sum := piece[:min(len(piece), len(rows[0])-at)]
		copy(sum, rows[0][at:])
		for _, row := range rows[1:] {
			row = row[at : at+len(sum)]
			for i := range sum {
				sum[i] += row[i]
			}
		}
		for _, row := range rows {
			copy(row[at:], sum)
		}
	}
}

func (g *sharedGroup) Abort() {
	g.hangUp()
	g.Group.Abort()
}

// hangUp ends the connections: sums under way fail here, and then on the peers.
func (g *sharedGroup) hangUp() {
	for _, p := range g.peers {
		if p != nil {
			p.conn.Close()
		}
	}
}

func (g *sharedGroup) Close() {
	g.closed.Do(func() {
		close(g.sums)
		<-g.ended
		g.hangUp()
		for _, memory := range g.memory {
			if memory != nil {
				unix.Munmap(memory) // nothing can be done about an error
			}
		}
		g.memory = nil
	})
	g.Group.Close()
}
