package ddp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/rpc"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ddprun/ddprun/internal/torch"
)

// Ranks of these tests are processes: this test binary again, with what to do in its environment. They meet in a store of the
// parent, over a Unix socket.
const (
	envScene  = "DDP_TEST_SCENE"
	envRank   = "DDP_TEST_RANK"
	envSize   = "DDP_TEST_SIZE"
	envSocket = "DDP_TEST_SOCKET"
	envGroup  = "DDP_TEST_GROUP"
)

func TestMain(m *testing.M) {
	if scene := os.Getenv(envScene); scene != "" {
		os.Exit(rankMain(scene))
	}
	os.Exit(m.Run())
}

// glooReport is what a rank's process prints at its end.
type glooReport struct {
	Error   string
	Seconds float64 // that the failed collective took
	Early   int     // all-reduces of buckets that started before backward ended
}

// scenes are what a rank's process may do with its group; each returns the error that it provoked.
var scenes = map[string]func(g Group, report *glooReport) error{
	"collectives":       func(g Group, _ *glooReport) error { return collectives(g) },
	"bf16":              compressed(torch.BFloat16, 7, -126),
	"fp16":              compressed(torch.Float16, 10, -14),
	"train":             func(g Group, _ *glooReport) error { return reduceOnce(g) },
	"killed":            loseRank1(killSelf),
	"silent":            loseRank1(func() { time.Sleep(time.Hour) }),
	"aborted by rank 0": abortedBy(0),
	"aborted by rank 1": abortedBy(1),
}

// abortedBy is a scene in which rank 1 does not come to a collective, until after 200 ms a rank aborts.
func abortedBy(rank int) func(Group, *glooReport) error {
	return func(g Group, report *glooReport) error {
		if g.Rank() == rank {
			time.AfterFunc(200*time.Millisecond, g.Abort)
		}
		if g.Rank() == 1 {
			time.Sleep(2 * time.Second) // leaves when the others have had their errors
			return nil
		}
		start := time.Now()
		err := Barrier(g)
		report.Seconds = time.Since(start).Seconds()
		return err
	}
}

// loseRank1 is a scene in which rank 1 meets the others once and then is lost; the others time how soon they notice.
func loseRank1(lost func()) func(Group, *glooReport) error {
	return func(g Group, report *glooReport) error {
		if err := Barrier(g); err != nil {
			return err
		}
		if g.Rank() == 1 {
			lost()
		}
		start := time.Now()
		err := SumFloat64s(g, make([]float64, 1<<16))
		report.Seconds = time.Since(start).Seconds()
		return err
	}
}

func killSelf() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {}
}

// reduceOnce runs a step and compares the gradient with the sum of the ranks' passes, up to the order of additions.
func reduceOnce(g Group) error {
	p, err := NewParams(reducerList, g)
	if err != nil {
		return err
	}
	defer p.Close()
	if g.Rank() == 0 {
		initialise(p)
	}
	if err := p.Broadcast(g); err != nil {
		return err
	}
	r, err := NewReducer(p, g, testBucketBytes)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := backwardOf(p, uint64(g.Rank()), r.Begin); err != nil {
		return err
	}
	if _, err := r.Finish(); err != nil {
		return err
	}
	got := append([]float32(nil), p.grad.Float32s()...)
	want := make([]float64, len(got))
	for rank := range g.Size() {
		p.ZeroGrad()
		if err := backwardOf(p, uint64(rank), nil); err != nil {
			return err
		}
		for i, x := range p.grad.Float32s() {
			want[i] += float64(x)
		}
	}
	for i, x := range got {
		if d := float64(x) - want[i]; d > 1e-5 || d < -1e-5 {
			return fmt.Errorf("gradient %d is %v, want %v", i, x, want[i])
		}
	}
	return nil
}

func rankMain(scene string) int {
	rank, _ := strconv.Atoi(os.Getenv(envRank))
	size, _ := strconv.Atoi(os.Getenv(envSize))
	var report glooReport
	if err := playScene(scene, rank, size, &report); err != nil {
		report.Error = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		return 1
	}
	return 0
}

func playScene(scene string, rank, size int, report *glooReport) error {
	client, err := rpc.Dial("unix", os.Getenv(envSocket))
	if err != nil {
		return err
	}
	defer client.Close()
	torch.SetThreads(1)
	if os.Getenv(envGroup) == "nccl" {
		return playNCCL(scene, rank, size, rpcStore{client}, report)
	}
	g, err := NewGloo(rpcStore{client}, rank, size, "127.0.0.1", glooTimeout)
	if err != nil {
		return err
	}
	if os.Getenv(envGroup) == "shared" {
		if g, err = NewShared(g, rpcStore{client}, glooTimeout); err != nil {
			return err
		}
	}
	defer g.Close()
	if g.Rank() != rank || g.Size() != size {
		return fmt.Errorf("the group says rank %d of %d", g.Rank(), g.Size())
	}
	return scenes[scene](g, report)
}

// glooTimeout bounds the collectives of these tests.
const glooTimeout = 5 * time.Second

// atOnce is, in seconds, what a wait for glooTimeout takes longer than.
const atOnce = 0.8 * float64(glooTimeout/time.Second)

// play runs a scene with size ranks and returns their reports; that of a process that was killed is nil.
func play(t *testing.T, scene string, size int, wait func(rank int) bool) []*glooReport {
	t.Helper()
	return playWith(t, nil, scene, size, wait)
}

// playWith is play with more variables for the ranks.
func playWith(t *testing.T, variables []string, scene string, size int, wait func(rank int) bool) []*glooReport {
	t.Helper()
	socket := serveStore(t)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	var unwaited sync.WaitGroup
	t.Cleanup(func() { // a process that outlives the tests would keep their output open
		cancel()
		unwaited.Wait()
	})
	reports := make([]*glooReport, size)
	var all sync.WaitGroup
	for rank := range size {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), envScene+"="+scene, fmt.Sprint(envRank, "=", rank), fmt.Sprint(envSize, "=", size), envSocket+"="+socket)
		cmd.Env = append(append(cmd.Env, "OMP_NUM_THREADS=1"), variables...) // as launch does; more threads on busy cores give another last bit
		cmd.Stderr = os.Stderr
		run := func() {
			out, err := cmd.Output()
			if err != nil {
				return
			}
			reports[rank] = &glooReport{}
			if err := json.Unmarshal(out, reports[rank]); err != nil {
				t.Errorf("rank %d printed %q", rank, out)
			}
		}
		if wait != nil && !wait(rank) {
			unwaited.Go(run) // ends with the test's context
			continue
		}
		all.Go(run)
	}
	all.Wait()
	return reports
}

func TestGlooCollectives(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scene string
		size  int
	}{{"collectives", 2}, {"collectives", 3}, {"train", 3}, {"bf16", 2}, {"fp16", 2}} {
		for rank, r := range play(t, c.scene, c.size, nil) {
			if r == nil || r.Error != "" {
				t.Errorf("%s, rank %d of %d: %+v", c.scene, rank, c.size, r)
			}
		}
	}
}

func TestGlooKilledPeerIsAnErrorAtOnce(t *testing.T) {
	t.Parallel()
	for _, size := range []int{2, 3} {
		for rank, r := range play(t, "killed", size, nil) {
			switch {
			case rank == 1:
				if r != nil {
					t.Errorf("rank 1 was killed and reports %+v", r)
				}
			case r == nil:
				t.Errorf("rank %d of %d died too", rank, size)
			case !strings.Contains(r.Error, fmt.Sprintf("rank %d of %d: all-reduce failed, a peer is gone or silent", rank, size)) || r.Seconds > atOnce:
				t.Errorf("rank %d of %d: %+v", rank, size, r)
			default:
				t.Logf("rank %d of %d: %.3f s: %s", rank, size, r.Seconds, r.Error)
			}
		}
	}
}

func TestGlooSilentPeerIsAnErrorAfterTheTimeout(t *testing.T) {
	t.Parallel()
	r := play(t, "silent", 2, func(rank int) bool { return rank == 0 })[0]
	if r == nil || r.Error == "" || r.Seconds < 0.9*glooTimeout.Seconds() || r.Seconds > 2*glooTimeout.Seconds() {
		t.Errorf("got %+v, the timeout is %v", r, glooTimeout)
	}
	t.Logf("%+v", r)
}

// A rank that aborts has its error at once, and so have those that wait for it.
func TestGlooAbort(t *testing.T) {
	t.Parallel()
	for by, size := range []int{2, 3} {
		for rank, r := range play(t, fmt.Sprint("aborted by rank ", by), size, nil) {
			if rank != 1 && (r == nil || r.Error == "" || r.Seconds > atOnce) {
				t.Errorf("rank %d of %d: got %+v", rank, size, r)
			}
			t.Logf("rank %d of %d: %+v", rank, size, r)
		}
	}
}

func TestGlooMeetingFails(t *testing.T) {
	live := torch.Live()
	start := time.Now()
	_, err := NewGloo(newMapStore(), 0, 2, "127.0.0.1", time.Second)
	if err == nil || !strings.Contains(err.Error(), "rank 0 of 2: cannot form the process group") {
		t.Errorf("nobody else comes: got %v", err)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %v, the timeout is 1 s", took)
	}
	t.Log(err)
	_, err = NewGloo(newMapStore(), 0, 2, "no-such-host.invalid", time.Second)
	if err == nil {
		t.Error("an unknown host: no error")
	}
	t.Log(err)
	if torch.Live() != live {
		t.Errorf("%d tensors live, %d before", torch.Live(), live)
	}
}
