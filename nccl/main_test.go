package nccl

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/ddprun/ddprun/nccl/cuda"
	"github.com/ddprun/ddprun/nccl/loopback"
)

// patience is the time-out of what must come to an end by itself.
const patience = 30 * time.Second

// roles are what the test binary does instead of tests, as a process of its own.
var roles = map[string]func() error{}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv("NCCL_TEST_ROLE")]; ok {
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	library, err := loopback.Build(strings.Fields(os.Getenv("LOOPBACK_CFLAGS"))...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, variable := range loopback.Environment(library) {
		name, value, _ := strings.Cut(variable, "=")
		os.Setenv(name, value)
	}
	os.Exit(m.Run())
}

// role prepares a process that runs a role.
func role(t *testing.T, name string, environment ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "NCCL_TEST_ROLE="+name), environment...)
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// ranks runs a role as size processes that share a unique id, and returns what each of them said and whether it ended well.
func ranks(t *testing.T, name string, size int, environment ...string) (said []string, well []bool) {
	t.Helper()
	lib := must(Open())
	id := must(lib.NewUniqueID())
	var cmds []*exec.Cmd
	var outs []*bytes.Buffer
	for r := range size {
		cmd, out := role(t, name, append([]string{"TEST_RANK=" + strconv.Itoa(r), "TEST_SIZE=" + strconv.Itoa(size),
			"TEST_ID=" + hex.EncodeToString(id[:])}, environment...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds, outs = append(cmds, cmd), append(outs, out)
	}
	late := time.AfterFunc(patience, func() {
		for _, cmd := range cmds {
			cmd.Process.Kill()
		}
	})
	for i, cmd := range cmds {
		err := cmd.Wait()
		well = append(well, err == nil)
		said = append(said, strings.TrimSpace(fmt.Sprint(outs[i], " ", cmd.ProcessState)))
	}
	if !late.Stop() {
		t.Fatalf("%s hangs with %v:\n%s", name, environment, strings.Join(said, "\n"))
	}
	return said, well
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// peer is one rank with a stream, in a process of its own or not.
type peer struct {
	lib    *Library
	cuda   *cuda.Runtime
	comm   *Comm
	stream cuda.Stream
	rank   int
	size   int
}

// fromEnvironment joins the communicator that ranks made.
func fromEnvironment() *peer {
	var id UniqueID
	must(hex.Decode(id[:], []byte(os.Getenv("TEST_ID"))))
	p := join(id, must(strconv.Atoi(os.Getenv("TEST_RANK"))), must(strconv.Atoi(os.Getenv("TEST_SIZE"))))
	check(p.comm.Await(patience))
	return p
}

func join(id UniqueID, rank, size int) *peer {
	p := &peer{lib: must(Open()), cuda: must(cuda.Open()), rank: rank, size: size}
	p.comm = must(p.lib.NewComm(id, rank, size, Config{}))
	p.stream = must(p.cuda.NewStream(true))
	return p
}

// do awaits the launch of a collective and then the stream.
func (p *peer) do(err error) {
	if err == ErrInProgress {
		err = p.comm.Await(patience)
	}
	check(err)
	check(p.cuda.StreamSynchronize(p.stream))
}

func (p *peer) close() {
	if err := p.comm.Finalize(); err != nil && err != ErrInProgress {
		panic(err)
	}
	check(p.comm.Await(patience))
	check(p.comm.Destroy())
	check(p.cuda.DestroyStream(p.stream))
}

// buffer returns n elements of the device's memory, as a slice and as an address.
func buffer[T any](p *peer, n int) ([]T, uintptr) {
	var one T
	at := must(p.cuda.Alloc(n * int(unsafe.Sizeof(one))))
	return unsafe.Slice(*(**T)(unsafe.Pointer(&at)), n), at
}
