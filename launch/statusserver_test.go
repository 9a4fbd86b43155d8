package launch

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ownRuntimeDir makes the agents of a test, and who asks them, meet apart from others.
func ownRuntimeDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ddprun-test-") // short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("XDG_RUNTIME_DIR", dir)
	return dir
}

func TestStatusIsForThisUserAlone(t *testing.T) {
	dir := ownRuntimeDir(t)
	out := t.TempDir()
	s, err := serveStatus(out, "r", func() any { return Status{RunID: "r", Generation: 3} })
	if err != nil {
		t.Fatal(err)
	}
	found := sockets(filepath.Join(dir, "ddprun"), "")
	if len(found) != 1 || len(found[0]) > maxSocketPath {
		t.Fatalf("%q", found)
	}
	for path, want := range map[string]os.FileMode{found[0]: 0o600, filepath.Dir(found[0]): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v", path, info.Mode(), err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	os.Symlink(out, link)
	for _, name := range []string{out, link, out + "/."} {
		if got := AskStatus(name); len(got) != 1 || got[0].RunID != "r" || got[0].Generation != 3 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := AskStatus(t.TempDir()); len(got) != 0 {
		t.Errorf("another directory: %+v", got)
	}
	s.close()
	if got := AskStatus(out); len(got) != 0 {
		t.Errorf("after its end: %+v", got)
	}
	if found := sockets(filepath.Join(dir, "ddprun"), ""); len(found) != 0 {
		t.Errorf("%q are left", found)
	}
}

func TestStaleSocketsGo(t *testing.T) {
	dir := filepath.Join(ownRuntimeDir(t), "ddprun")
	out := t.TempDir()
	os.Mkdir(dir, 0o700)
	stale := filepath.Join(dir, socketName(out, "")+"-1-00.sock")
	listener, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false) // as a killed agent leaves it
	listener.Close()
	fresh := filepath.Join(dir, "0000-1-00.sock")
	os.WriteFile(fresh, nil, 0o600)
	long := time.Now().Add(-time.Hour)
	os.Chtimes(stale, long, long)
	s, err := serveStatus(out, "r", func() any { return Status{} })
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Errorf("the stale socket is there: %v", err)
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Errorf("one that may be about to be served is gone: %v", err)
	}
	second, err := serveStatus(out, "r", func() any { return Status{} })
	if err != nil {
		t.Fatal(err)
	}
	defer second.close()
	if got := AskStatus(out); len(got) != 2 {
		t.Errorf("%d agents answer, want 2", len(got))
	}
}

func TestRuntimeDirThatIsNotOurs(t *testing.T) {
	parent := ownRuntimeDir(t)
	dir := filepath.Join(parent, "ddprun")
	os.Mkdir(dir, 0o777)
	os.Chmod(dir, 0o777) // anybody could put a socket there
	if err := makePrivate(dir); err == nil {
		t.Error("a directory for all is taken")
	}
	os.Remove(dir)
	os.Symlink(t.TempDir(), dir)
	if err := makePrivate(dir); err == nil {
		t.Error("a link is taken")
	}
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(parent, strings.Repeat("long/", 30)))
	if dir, err := runtimeDir(); err != nil || !strings.HasPrefix(dir, "/tmp/ddprun-") {
		t.Errorf("where the path is too long: %s %v", dir, err)
	}
}

func TestClientThatDoesNotReadHoldsUpNobody(t *testing.T) {
	ownRuntimeDir(t)
	out := t.TempDir()
	big := Status{RunID: strings.Repeat("x", 4<<20)}
	s, err := serveStatus(out, "r", func() any { return big })
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	conn, err := net.Dial("unix", s.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := AskStatus(out); len(got) != 1 || got[0].RunID != big.RunID {
		t.Errorf("%d answers", len(got))
	}
}

// TestStatusAndMetricsOfARun asks a run both ways, before and after a restart.
func TestStatusAndMetricsOfARun(t *testing.T) {
	ownRuntimeDir(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	out := t.TempDir()
	p := startAgent(t, agentConfig{NProc: 2, MaxRestarts: 1, OutputDir: out, MetricsAddr: addr, Scripts: scripts{
		{"train", "exit 1"},
		{"metrics step 7 loss 3.5 slow_rank 1 tokens_per_second 100; progress train 8 5; activity forward stuck; print up; train", "progress train 7 0; activity sums waiting; print up; train"}}})
	p.await("] up", 2)
	var s Status
	waitFor(t, 10*time.Second, "beats of both", func() bool {
		got := AskStatus(out)
		if len(got) == 1 {
			s = got[0]
		}
		return len(s.Ranks) == 2 && s.Ranks[0].Doing != "" && s.Ranks[1].Doing != ""
	}, p.out.String)
	host, _ := os.Hostname()
	if s.OutputDir != out || s.PID != p.cmd.Process.Pid || s.Host != host || s.Generation != 1 || s.Restarts != 1 || s.World != 2 || s.Up() != 2 || s.Checkpoint() != 5 || s.Slow() != 1 {
		t.Errorf("%+v", s)
	}
	if r := s.Ranks[1]; r.Rank != 1 || !r.Up || r.Step != 7 || r.Doing != "sums" || !r.Waiting || r.BeatSeconds < 0 || r.MovedSeconds < 0 || r.Host != host || r.PID == 0 {
		t.Errorf("%+v", r)
	}
	text := get(t, "http://"+addr+"/metrics")
	for _, want := range []string{"ddprun_generation 1\n", "ddprun_restarts 1\n", "ddprun_ranks_up 2\n", "ddprun_checkpoint_step 5\n", "ddprun_step 7\n", "ddprun_loss 3.5\n",
		"ddprun_tokens_per_second 100\n", `ddprun_slow_rank{rank="1"} 1`, fmt.Sprintf(`ddprun_rank_step{host=%q,rank="0"} 8`, host),
		fmt.Sprintf(`ddprun_rank_waiting{host=%q,rank="1"} 1`, host), "ddprun_rank_seconds_since_beat{", "# HELP ddprun_loss "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != ExitComeAgain {
		t.Errorf("exit code %d\n%s", code, p.out.String())
	}
	if got := AskStatus(out); len(got) != 0 {
		t.Errorf("after its end: %+v", got)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s %v\n%s", r.Status, err, body)
	}
	return string(body)
}

func TestMetricsAddressInUse(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	c := agentConfig{NProc: 1, Scripts: scripts{{"done"}}, MetricsAddr: listener.Addr().String()}.config()
	if outcome, err := Run(t.Context(), c); outcome.Code != ExitConfig || err == nil || !strings.Contains(err.Error(), listener.Addr().String()) {
		t.Errorf("%+v %v", outcome, err)
	}
}

func TestStatusIsJSONForScripts(t *testing.T) {
	data, err := json.Marshal(Status{Ranks: []RankStatus{{Rank: 1}}})
	var all map[string]any
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if rank := all["ranks"].([]any)[0].(map[string]any); err != nil || rank["rank"] != 1.0 || rank["up"] != false || all["generation"] != 0.0 {
		t.Errorf("%s %v", data, err)
	}
}

// TestStatusOfSeveralNodes: every agent tells of the ranks of all.
func TestStatusOfSeveralNodes(t *testing.T) {
	ownRuntimeDir(t)
	f := newFleet(t, scripts{{"metrics step 7 loss 3.5; progress train 7 0; activity forward stuck; print up; train"}}, 2, 2, 2)
	f.startAll(2)
	f.await("] up", 2)
	var all []Status
	whole := func(s Status) bool {
		if len(s.Ranks) != 4 || len(s.Nodes) != 2 || s.Metrics["loss"] != 3.5 {
			return false
		}
		for i, r := range s.Ranks {
			if r.Rank != i || r.Step != 7 || !r.Up {
				return false
			}
		}
		return s.World == 4 && s.Nodes[0].State == "running" && s.Nodes[1].State == "running" && s.Nodes[0].FirstRank+s.Nodes[1].FirstRank == 2
	}
	waitFor(t, 20*time.Second, "a whole status of both agents", func() bool {
		all = AskStatus(f.config.OutputDir)
		return len(all) == 2 && whole(all[0]) && whole(all[1])
	}, func() string { return fmt.Sprintf("%+v", all) })
	f.agents[0].signal(syscall.SIGTERM)
	f.agents[1].signal(syscall.SIGTERM)
	f.codes(ExitComeAgain, ExitComeAgain)
}
