package ddp

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ddprun/ddprun/internal/torch"
)

// message is what ranks of a node tell each other. Both sides of a step say the same, so a difference is noticed.
type message struct {
	kind  int64
	at, n int64
}

// The kinds of message.
const (
	sharesMemory = 1 + iota // its memory of n bytes comes with the message
	ready                   // elements [at, at+n) may be read and written
	done                    // this rank's part of the sum is written
)

func (m message) String() string {
	what := map[int64]string{sharesMemory: "sharing memory", ready: "ready for an all-reduce", done: "done with an all-reduce"}[m.kind]
	return fmt.Sprintf("%s (%d elements at %d)", what, m.n, m.at)
}

const messageBytes = 24

// noFile stands for no descriptor beside a message.
const noFile = -1

// peer is the connection to another rank of the node.
type peer struct {
	rank  int
	conn  *net.UnixConn
	inbox chan received // closed at the end of the connection
}

type received struct {
	message
	file int // a descriptor that the receiver owns, or noFile
}

func (p *peer) send(m message, file int) error {
	var b [messageBytes]byte
	binary.LittleEndian.PutUint64(b[0:], uint64(m.kind))
	binary.LittleEndian.PutUint64(b[8:], uint64(m.at))
	binary.LittleEndian.PutUint64(b[16:], uint64(m.n))
	var rights []byte
	if file != noFile {
		rights = unix.UnixRights(file)
	}
	if _, _, err := p.conn.WriteMsgUnix(b[:], rights, nil); err != nil {
		return fmt.Errorf("rank %d: %w", p.rank, err)
	}
	return nil
}

// receive fills the inbox until the connection ends, and then tells lost, which has room for it.
func (p *peer) receive(lost chan<- int) {
	defer func() {
		close(p.inbox)
		lost <- p.rank
	}()
	var b [messageBytes]byte
	oob := make([]byte, unix.CmsgSpace(4))
	for {
		n, noob, _, _, err := p.conn.ReadMsgUnix(b[:], oob)
		if err != nil || n != len(b) {
			return
		}
		r := received{file: noFile}
		r.kind = int64(binary.LittleEndian.Uint64(b[0:]))
		r.at = int64(binary.LittleEndian.Uint64(b[8:]))
		r.n = int64(binary.LittleEndian.Uint64(b[16:]))
		if noob > 0 {
			if r.file, err = fileOf(oob[:noob]); err != nil {
				return
			}
		}
		p.inbox <- r
	}
}

func fileOf(oob []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return noFile, errors.Join(err, errors.New("not one control message"))
	}
	files, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(files) != 1 {
		return noFile, errors.Join(err, errors.New("not one descriptor"))
	}
	unix.CloseOnExec(files[0])
	return files[0], nil
}

// expect waits for the peer's next message, which must be want, and returns the descriptor that came with it. A rank that comes out of
// lost meanwhile, this peer or another, is an error.
func (p *peer) expect(want message, timeout time.Duration, lost <-chan int) (file int, err error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case got, open := <-p.inbox:
		switch {
		case !open:
			return noFile, fmt.Errorf("rank %d has hung up", p.rank)
		case got.message != want:
			return noFile, fmt.Errorf("rank %d is %v, this rank is %v: a bug", p.rank, got.message, want)
		}
		return got.file, nil
	case rank := <-lost:
		return noFile, fmt.Errorf("rank %d has hung up", rank)
	case <-timer.C:
		return noFile, fmt.Errorf("rank %d did not answer within %v", p.rank, timeout)
	}
}

// tokenBytes is the length of a listener's name and of the token that it wants to hear.
const tokenBytes = 16

// meet connects this rank with every other one over Unix sockets; the result is by rank, without this one. The sockets are in the abstract
// namespace, so no file is left behind; that knows no permissions, so both sides check the other's user, and the caller shows a token out
// of the store.
func meet(rank, size int, store torch.Store, timeout time.Duration) (peers []*peer, err error) {
	deadline := time.Now().Add(timeout)
	peers = make([]*peer, size)
	defer func() {
		if err == nil {
			return
		}
		for _, p := range peers {
			if p != nil {
				p.conn.Close()
			}
		}
	}()
	secret := make([]byte, 2*tokenBytes)
	rand.Read(secret) // never fails
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socketName(secret), Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	if err := store.Set(secretKey(rank), secret); err != nil {
		return nil, err
	}
	for other := range rank {
		theirs, err := store.Get(secretKey(other), time.Until(deadline))
		if err != nil {
			return nil, fmt.Errorf("rank %d did not come: %w", other, err)
		}
		conn, err := call(theirs, rank)
		if err != nil {
			return nil, fmt.Errorf("rank %d: %w", other, err)
		}
		peers[other] = newPeer(other, conn)
	}
	if err := listener.SetDeadline(deadline); err != nil {
		return nil, err
	}
	for missing := size - 1 - rank; missing > 0; {
		conn, err := listener.AcceptUnix()
		if err != nil {
			return nil, fmt.Errorf("%d of %d ranks did not come: %w", missing, size, err)
		}
		other, err := answer(conn, secret, deadline)
		if err != nil || other <= rank || other >= size || peers[other] != nil {
			conn.Close() // not one of ours
			continue
		}
		peers[other] = newPeer(other, conn)
		missing--
	}
	return peers, nil
}

func newPeer(rank int, conn *net.UnixConn) *peer {
	return &peer{rank: rank, conn: conn, inbox: make(chan received, 4)}
}

func secretKey(rank int) string { return fmt.Sprint("rank/", rank) }

func socketName(secret []byte) string { return "@ddprun-" + hex.EncodeToString(secret[:tokenBytes]) }

// call connects to the rank that listens with secret and says which rank this is.
func call(secret []byte, rank int) (*net.UnixConn, error) {
	if len(secret) != 2*tokenBytes {
		return nil, fmt.Errorf("its key in the store has %d bytes", len(secret))
	}
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socketName(secret), Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	err = sameUser(conn)
	if err == nil {
		_, err = conn.Write(binary.LittleEndian.AppendUint32(append([]byte(nil), secret[tokenBytes:]...), uint32(rank)))
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// answer returns the rank of a caller.
func answer(conn *net.UnixConn, secret []byte, deadline time.Time) (int, error) {
	if err := sameUser(conn); err != nil {
		return 0, err
	}
	if err := conn.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	var hello [tokenBytes + 4]byte
	n, err := conn.Read(hello[:])
	if err != nil {
		return 0, err
	}
	if n != len(hello) || string(hello[:tokenBytes]) != string(secret[tokenBytes:]) {
		return 0, errors.New("a stranger")
	}
	return int(binary.LittleEndian.Uint32(hello[tokenBytes:])), conn.SetReadDeadline(time.Time{})
}

// sameUser is an error where the process at the other end belongs to another user.
func sameUser(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, credErr); err != nil {
		return err
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("its process belongs to user %d", cred.Uid)
	}
	return nil
}
