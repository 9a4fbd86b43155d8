package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

func TestOutputIsPrefixedLineByLine(t *testing.T) {
	_, out, errOut := runScripts(t, agentConfig{NProc: 1,
		Scripts: scripts{{`print one; print two; raw "a\x1b[31mb\r\n\nlast without end"; done`}}}, nil)
	if out != "[rank 0] one\n[rank 0] two\n" {
		t.Errorf("standard output: %q", out)
	}
	if errOut != "[rank 0] a\\x1b[31mb\n[rank 0] \n[rank 0] last without end\n" {
		t.Errorf("standard error: %q", errOut)
	}
}

func TestPartialLineIsShownWhileTheWorkerLives(t *testing.T) {
	p := startAgent(t, agentConfig{Scripts: scripts{{`raw "10 %"; hang`}}, NProc: 1})
	p.await("[rank 0] 10 %\n", 1)
}

func TestManyLinesArriveWhole(t *testing.T) {
	const lines = 10000
	dir := t.TempDir()
	before := time.Now()
	_, out, _ := runScripts(t, agentConfig{Scripts: scripts{{fmt.Sprintf("lines %d; done", lines)}}, NProc: 2, LogDir: dir},
		func(c *Config) { c.Tee = TeeAll })
	took := time.Since(before)
	next := map[string]int{}
	for _, line := range strings.Split(strings.TrimSuffix(out, "\n"), "\n") {
		rank, text, _ := strings.Cut(line, "] ")
		if text != fmt.Sprintf("line %d", next[rank]) {
			t.Fatalf("%q where line %d was due", line, next[rank])
		}
		next[rank]++
	}
	if next["[rank 0"] != lines || next["[rank 1"] != lines {
		t.Errorf("lines shown: %v", next)
	}
	filed, err := os.ReadFile(filepath.Join(dir, "attempt_0", "1", "stdout.log"))
	if err != nil || strings.Count(string(filed), "\n") != lines {
		t.Errorf("%d lines filed (%v)", strings.Count(string(filed), "\n"), err)
	}
	t.Logf("%.0f lines/s, start and end of the workers included", 2*lines/took.Seconds())
}

func TestBigOutputWithoutALineEnd(t *testing.T) {
	dir := t.TempDir()
	_, _, errOut := runScripts(t, agentConfig{NProc: 1, LogDir: dir,
		Scripts: scripts{{`flood 3000000; done`}}}, nil)
	total := 0
	for _, line := range strings.Split(strings.TrimSuffix(errOut, "\n"), "\n") {
		text, prefixed := strings.CutPrefix(line, "[rank 0] ")
		if !prefixed || len(text) > maxLineBytes {
			t.Fatalf("a line of %d bytes: %.40q", len(line), line)
		}
		total += len(text)
	}
	if total != 3000000 {
		t.Errorf("%d bytes shown", total)
	}
	if info, err := os.Stat(filepath.Join(dir, "attempt_0", "0", "stderr.log")); err != nil || info.Size() != 3000000 {
		t.Errorf("filed: %v %v", info, err)
	}
}

// brokenScreen fails as a closed pipe does.
type brokenScreen struct{}

func (brokenScreen) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestBrokenScreenDoesNotEndTheRun(t *testing.T) {
	outcome, _, _ := runScripts(t, agentConfig{Scripts: scripts{{"lines 1000; done"}}, NProc: 1},
		func(c *Config) { c.Stdout = brokenScreen{} })
	if outcome.Code != ExitDone {
		t.Errorf("%+v", outcome)
	}
}

// stuckScreen blocks, as a pager does that nobody scrolls.
type stuckScreen struct{ release chan struct{} }

func (s stuckScreen) Write(data []byte) (int, error) {
	<-s.release
	return len(data), nil
}

func TestStuckScreenDoesNotHoldUpTheEnd(t *testing.T) {
	onlyInLongTests(t)
	screen := stuckScreen{make(chan struct{})}
	defer close(screen.release)
	outcome, _, _ := runScripts(t, agentConfig{Scripts: scripts{{"print x; train", "exit 3"}}, NProc: 2},
		func(c *Config) { c.Stdout, c.Stderr = screen, screen })
	if outcome.Code != ExitFailed {
		t.Errorf("%+v", outcome)
	}
}

func TestFullDiskOfLogsDoesNotEndTheRun(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var log, shown syncBuffer
	s := &stream{from: read, file: &logFile{file: full}, screen: &screen{w: &shown}, tail: &tail{}, log: zerolog.New(&log)}
	ended := make(chan struct{})
	go func() { defer close(ended); s.run() }()
	write.WriteString("one\n")
	write.WriteString("two\n")
	write.Close()
	<-ended
	if shown.String() != "one\ntwo\n" || strings.Count(log.String(), "not filed any more") != 1 {
		t.Errorf("shown %q, logged %q", shown.String(), log.String())
	}
}

func TestTailKeepsTheLastLines(t *testing.T) {
	var kept tail
	for i := range 2*tailLines + 3 {
		kept.add(fmt.Append(nil, i))
	}
	last := kept.last()
	if len(last) != tailLines || last[0] != fmt.Sprint(tailLines+3) || last[tailLines-1] != fmt.Sprint(2*tailLines+2) {
		t.Errorf("%v", last)
	}
	kept.add([]byte(strings.Repeat("x", 2*tailLineBytes)))
	if last = kept.last(); len(last[tailLines-1]) != tailLineBytes {
		t.Errorf("a line of %d bytes is kept", len(last[tailLines-1]))
	}
}
