package launch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ddprun/ddprun/launch/pipe"
)

// TestMain lets the test binary stand for the other programs of a run: a worker that follows a script, an agent, a guard.
func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0") // else every process of a -race run waits a second at its end
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	switch os.Args[1] {
	case "test-worker":
		os.Exit(testWorker())
	case "test-mute": // a worker that never says a word
		time.Sleep(time.Hour)
	case "test-agent":
		os.Exit(testAgent())
	case "test-helper":
		if err := Helper(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// scripts is what a test worker gets as its configuration: for each attempt (the last one stands for all after it) one
// script a rank (the last one stands for all after it).
type scripts [][]string

func (s scripts) json() []byte {
	data, _ := json.Marshal(s)
	return data
}

// testWorker is a worker that follows its script. It speaks the real protocol.
func testWorker() int {
	w, err := pipe.FromEnvironment("test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	start, err := w.Start(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		<-w.Lost()
		os.Exit(9)
	}()
	var s scripts
	if err := json.Unmarshal(start.Config, &s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	restart, _ := strconv.Atoi(os.Getenv("TORCHELASTIC_RESTART_COUNT"))
	ranks := s[min(restart, len(s)-1)]
	for _, command := range strings.Split(ranks[min(start.Rank, len(ranks)-1)], ";") {
		name, rest, _ := strings.Cut(strings.TrimSpace(command), " ")
		if code, end := testCommand(w, start, name, rest); end {
			return code
		}
	}
	fmt.Fprintln(os.Stderr, "the script has no end")
	return 1
}

// testCommand does one command of a script; end says that the worker exits with code.
func testCommand(w *pipe.Worker, start pipe.Start, name, rest string) (code int, end bool) {
	switch name {
	case "print":
		fmt.Println(rest)
	case "raw": // a Go string literal to standard error
		text, err := strconv.Unquote(rest)
		if err != nil {
			panic(err)
		}
		os.Stderr.WriteString(text)
	case "lines": // as many lines as fast as possible
		n, _ := strconv.Atoi(rest)
		for i := range n {
			fmt.Printf("line %d\n", i)
		}
	case "warn": // the same line so many times
		n, _ := strconv.Atoi(rest)
		os.Stderr.WriteString(strings.Repeat("the same\n", n))
	case "flood": // as many bytes without a line end
		n, _ := strconv.Atoi(rest)
		os.Stderr.WriteString(strings.Repeat("x", n))
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "facts":
		printFacts(start)
	case "progress": // phase step checkpoint
		var p pipe.Progress
		fmt.Sscan(rest, &p.Phase, &p.Step, &p.Checkpoint)
		w.Progress(p)
	case "activity": // doing, by underscores; how: waiting, working, silent or else
		var doing, how string
		fmt.Sscan(rest, &doing, &how)
		var done uint64
		w.Observe(func() pipe.Activity {
			switch how {
			case "working":
				done++
			case "silent": // no beat comes any more
				select {}
			}
			return pipe.Activity{Doing: strings.ReplaceAll(doing, "_", " "), Waiting: how == "waiting", Done: done}
		})
	case "steps": // as many, every 200 ms
		n, _ := strconv.Atoi(rest)
		for i := range n {
			w.Progress(pipe.Progress{Phase: pipe.PhaseTrain, Step: int64(i)})
			time.Sleep(200 * time.Millisecond)
		}
	case "metrics": // name number name number ...
		m := pipe.Metrics{}
		fields := strings.Fields(rest)
		for i := 0; i+1 < len(fields); i += 2 {
			m[fields[i]], _ = strconv.ParseFloat(fields[i+1], 64)
		}
		w.Metrics(m)
	case "error":
		w.Error(pipe.ErrorReport{Message: rest})
	case "echo": // an error that is another rank's
		w.Error(pipe.ErrorReport{Message: rest, Secondary: true})
	case "permanent":
		w.Error(pipe.ErrorReport{Message: rest, Permanent: true})
	case "stamp":
		fmt.Println("stamp", time.Now().UnixNano())
	case "sleep":
		d, _ := time.ParseDuration(rest)
		time.Sleep(d)
	case "child": // a child in the same process group
		startChild(false)
	case "daemon": // a child in a session of its own
		startChild(true)
	case "set":
		w.Store().Set(rest, []byte("x"))
	case "get":
		if _, err := w.Store().Get(rest, 20*time.Second); err != nil {
			return 1, true
		}
	case "signal":
		n, _ := strconv.Atoi(rest)
		syscall.Kill(os.Getpid(), syscall.Signal(n))
	case "train": // until asked to stop
		<-w.Stop()
		stop, _ := w.Stopped()
		if stop.How != pipe.StopCheckpoint {
			return 1, true
		}
		w.Done(pipe.Done{Stopped: true})
		return ExitComeAgain, true
	case "hang":
		select {}
	case "done":
		w.Done(pipe.Done{})
		return 0, true
	case "exit":
		n, _ := strconv.Atoi(rest)
		return n, true
	default:
		panic("no such command: " + name)
	}
	return 0, false
}

// printFacts prints what a worker sees of its process.
func printFacts(start pipe.Start) {
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		target, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		fmt.Println("fd", fd.Name(), target)
	}
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		if strings.HasPrefix(line, "SigBlk") {
			fmt.Println(line)
		}
	}
	fmt.Printf("start %+v\n", start)
}

func startChild(session bool) {
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: session}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr // holds the pipes of the worker's output open
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	fmt.Println("child", cmd.Process.Pid)
}

// agentConfig is the part of Config that a test agent is given.
type agentConfig struct {
	Scripts       scripts
	NProc         int
	LogDir        string
	RunID         string
	MaxRestarts   int
	Grace         time.Duration
	Limits        Limits
	DebugRanks    []int
	MetricsAddr   string
	TrainJob      TrainJob
	WithoutHelper bool
	OutputDir     string
	Nodes         testNodes
}

func (a agentConfig) config() Config {
	c := Config{
		Worker: []string{"/proc/self/exe", "test-worker"}, Helper: []string{"/proc/self/exe", "test-helper"},
		NProc: a.NProc, ConfigJSON: a.Scripts.json(), LogDir: a.LogDir, RunID: a.RunID, MaxRestarts: a.MaxRestarts,
		Grace: a.Grace, Limits: a.Limits, DebugRanks: a.DebugRanks, MetricsAddr: a.MetricsAddr, TrainJob: a.TrainJob, Tee: TeeAll, Logger: zerolog.Nop(), OutputDir: a.OutputDir, Nodes: a.Nodes.nodes(),
	}
	if a.WithoutHelper {
		c.Helper = nil
	}
	return c
}

// testAgent runs the agent that its second argument describes.
func testAgent() int {
	var a agentConfig
	if err := json.Unmarshal([]byte(os.Args[2]), &a); err != nil {
		panic(err)
	}
	c := a.config()
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.Logger = zerolog.New(os.Stderr)
	outcome, err := Run(context.Background(), c)
	fmt.Fprintln(os.Stderr, "agent:", outcome.Code, err)
	return outcome.Code
}

// agentProcess is an agent in a process of its own.
type agentProcess struct {
	t   *testing.T
	cmd *exec.Cmd
	out *syncBuffer
	id  string // run id: in the environment of all its workers
}

func startAgent(t *testing.T, a agentConfig) *agentProcess {
	t.Helper()
	return startAgentTo(t, a, nil)
}

// startAgentTo starts an agent whose standard output is stdout; nil: it is kept in out, as its standard error always is.
func startAgentTo(t *testing.T, a agentConfig, stdout *os.File) *agentProcess {
	t.Helper()
	if a.RunID == "" {
		a.RunID = "test-" + randomHex(8)
	}
	arg, _ := json.Marshal(a)
	p := &agentProcess{t: t, cmd: exec.Command("/proc/self/exe", "test-agent", string(arg)), out: &syncBuffer{}, id: a.RunID}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if stdout != nil {
		p.cmd.Stdout = stdout
	}
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	return p
}

// await waits until the agent and its workers have printed text n times.
func (p *agentProcess) await(text string, n int) {
	p.t.Helper()
	waitFor(p.t, 20*time.Second, fmt.Sprintf("%d times %q", n, text), func() bool {
		return strings.Count(p.out.String(), text) >= n
	}, p.out.String)
}

// code waits for the agent's exit code.
func (p *agentProcess) code() int {
	p.t.Helper()
	if p.cmd.ProcessState != nil {
		return p.cmd.ProcessState.ExitCode()
	}
	err := p.cmd.Wait()
	if _, isExit := err.(*exec.ExitError); err != nil && !isExit {
		p.t.Fatalf("agent: %v\n%s", err, p.out.String())
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *agentProcess) signal(s syscall.Signal) { p.cmd.Process.Signal(s) }

// left returns the live processes that carry the run's id in their environment: workers and all they have started.
func left(runID string) []int {
	var found []int
	for _, pid := range processes() {
		env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
		if err == nil && bytes.Contains(env, []byte("TORCHELASTIC_RUN_ID="+runID+"\x00")) {
			found = append(found, pid)
		}
	}
	return found
}

// onlyInLongTests skips a test of some seconds unless DDPRUN_TEST_ALL is set.
func onlyInLongTests(t *testing.T) {
	t.Helper()
	if os.Getenv("DDPRUN_TEST_ALL") == "" {
		t.Skip("takes seconds: DDPRUN_TEST_ALL=1 runs it")
	}
}

func waitFor(t *testing.T, limit time.Duration, what string, ok func() bool, context func() string) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s\n%s", limit, what, context())
		}
	}
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(data)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// runScripts runs scripts in this process, and returns the outcome with the screen's two outputs.
func runScripts(t *testing.T, a agentConfig, change func(*Config)) (Outcome, string, string) {
	t.Helper()
	a.RunID = "test-" + randomHex(8)
	c := a.config()
	var stdout, stderr syncBuffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if change != nil {
		change(&c)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	outcome, err := Run(ctx, c)
	if err != nil {
		t.Fatalf("Run: %v\n%s%s", err, stdout.String(), stderr.String())
	}
	if pids := left(a.RunID); len(pids) > 0 {
		t.Fatalf("processes %v are left after Run", pids)
	}
	return outcome, stdout.String(), stderr.String()
}
