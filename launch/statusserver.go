package launch

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	maxSocketPath = 100             // bytes; the kernel takes 107
	askWithin     = 3 * time.Second // an agent that does not answer is stopped
	maxStatus     = 64 << 20        // bytes of an answer
	newSocket     = 10 * time.Second
)

// statusServer answers whoever of this user connects to its socket with a view of the run, as JSON.
type statusServer struct {
	listener net.Listener
	view     func() any
	ended    chan struct{}
}

// serveStatus serves view on a socket that is found by outputDir, or where that is empty by runID. Sockets that agents have left behind are removed.
func serveStatus(outputDir, runID string, view func() any) (*statusServer, error) {
	dir, err := runtimeDir()
	if err != nil {
		return nil, fmt.Errorf("launch: status socket: %w", err)
	}
	name := socketName(outputDir, runID)
	sweepSockets(dir)
	path := filepath.Join(dir, fmt.Sprintf("%s-%d-%s.sock", name, os.Getpid(), randomHex(2)))
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("launch: status socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, fmt.Errorf("launch: status socket: %w", err)
	}
	s := &statusServer{listener: listener, view: view, ended: make(chan struct{})}
	go s.serve()
	return s, nil
}

// serve answers one after the other: a view is small, and who does not read it is left.
func (s *statusServer) serve() {
	defer close(s.ended)
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(100 * time.Millisecond) // out of descriptors, perhaps
			continue
		}
		conn.SetDeadline(time.Now().Add(time.Second))
		json.NewEncoder(conn).Encode(s.view()) // to one that is gone: nobody waits for it
		conn.Close()
	}
}

// close ends the server and removes its socket.
func (s *statusServer) close() {
	s.listener.Close()
	<-s.ended
}

// AskStatus asks the agents of this user on this node for the status of the run in outputDir; empty: of all runs. Each answer is as one agent gave it.
func AskStatus(outputDir string) []Status {
	name := ""
	if outputDir != "" {
		name = socketName(outputDir, "")
	}
	var all []Status
	for _, dir := range runtimeDirs() {
		if checkPrivate(dir) != nil {
			continue // somebody else's answers are worth nothing
		}
		for _, path := range sockets(dir, name) {
			answer, err := askSocket(path)
			var s Status
			if err == nil && json.Unmarshal(answer, &s) == nil {
				all = append(all, s)
			}
		}
	}
	return all
}

// sweepSockets removes the sockets of agents that were killed. One that is new may be about to be served.
func sweepSockets(dir string) {
	for _, path := range sockets(dir, "") {
		info, err := os.Lstat(path)
		if err != nil || time.Since(info.ModTime()) < newSocket {
			continue
		}
		conn, err := net.DialTimeout("unix", path, 100*time.Millisecond)
		if err == nil {
			conn.Close()
		} else if errors.Is(err, syscall.ECONNREFUSED) {
			os.Remove(path)
		}
	}
}

// askSocket returns what the agent behind a socket says.
func askSocket(path string) ([]byte, error) {
	conn, err := net.DialTimeout("unix", path, askWithin)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(askWithin))
	return io.ReadAll(io.LimitReader(conn, maxStatus))
}

// socketName begins the names of the sockets of a run: short, whatever output_dir is called.
func socketName(outputDir, runID string) string {
	of := "run " + runID
	if outputDir != "" {
		if path, err := filepath.Abs(outputDir); err == nil {
			outputDir = path
		}
		if path, err := filepath.EvalSymlinks(outputDir); err == nil {
			outputDir = path
		}
		of = "output " + outputDir
	}
	sum := sha256.Sum256([]byte(of))
	return hex.EncodeToString(sum[:8])
}

// sockets lists the sockets in dir whose names begin with name.
func sockets(dir, name string) []string {
	entries, _ := os.ReadDir(dir) // one that is not there has none
	var paths []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), name) && strings.HasSuffix(entry.Name(), ".sock") {
			paths = append(paths, filepath.Join(dir, entry.Name()))
		}
	}
	return paths
}

// runtimeDirs are where sockets of this user may lie. A login and a job often have different environments, so all are looked at.
func runtimeDirs() []string {
	uid := os.Geteuid()
	dirs := []string{fmt.Sprintf("/run/user/%d/ddprun", uid), fmt.Sprintf("/tmp/ddprun-%d", uid)}
	if xdg := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(xdg) {
		dirs = append([]string{filepath.Join(xdg, "ddprun")}, dirs...)
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return strings.Compare(a, b) })
	return slices.Compact(dirs)
}

// runtimeDir makes the directory for this agent's socket: XDG_RUNTIME_DIR's where it can be used, else one in /tmp.
func runtimeDir() (string, error) {
	if xdg := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(xdg) {
		dir := filepath.Join(xdg, "ddprun")
		if len(dir)+len("/0123456789abcdef-1234567-abcd.sock") <= maxSocketPath && makePrivate(dir) == nil {
			return dir, nil
		}
	}
	dir := fmt.Sprintf("/tmp/ddprun-%d", os.Geteuid())
	return dir, makePrivate(dir)
}

// makePrivate makes a directory that nobody else can enter, or checks that it is one.
func makePrivate(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	return checkPrivate(dir)
}

func checkPrivate(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(owner.Uid) != os.Geteuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s must be a directory of this user that nobody else can enter (mode 0700)", dir)
	}
	return nil
}
