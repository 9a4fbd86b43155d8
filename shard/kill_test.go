package shard

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"
)

// childEnv makes this test program prepare the texts in the directory that it names
// instead of running tests.
const (
	childEnv      = "DDPRUN_SHARD_TEST_CHILD"
	childDelayEnv = "DDPRUN_SHARD_TEST_DELAY" // an Encode call; default 3ms
	childHostEnv  = "DDPRUN_SHARD_TEST_HOST"  // the node that it is on; default: this one
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		delay, err := time.ParseDuration(os.Getenv(childDelayEnv))
		if err != nil {
			delay = 3 * time.Millisecond
		}
		if err := killedWork(dir, delay); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func killedConfig(dir string, delay time.Duration) PrepareConfig {
	cfg := lineConfig(filepath.Join(dir, "cache"), filepath.Join(dir, "texts"))
	cfg.Encoder = testEncoder{vocab: 30000, delay: delay}
	cfg.ShardBytes = 20000
	cfg.partBytes = 50000
	cfg.host = os.Getenv(childHostEnv)
	return cfg
}

// killedWork prepares, and makes a sample index.
func killedWork(dir string, delay time.Duration) error {
	report, err := Prepare(context.Background(), killedConfig(dir, delay))
	if err != nil {
		return err
	}
	c, err := Open(report.Dir, OpenConfig{})
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := c.Samples(context.Background(), SampleConfig{Unit: Sentence, MaxTokens: 9})
	if err != nil {
		return err
	}
	return s.Close()
}

// TestKilled kills Prepare with SIGKILL at random moments. Whatever a kill leaves, what has a corpus's name is whole, what was finished is
// not made again, and the run that at last completes leaves what a run leaves that nobody disturbed. Then it begins anew, so that kills
// hit all stages.
func TestKilled(t *testing.T) {
	kills := 20
	if os.Getenv("DDPRUN_TEST_ALL") != "" {
		kills = 200
	}
	calm, disturbed := t.TempDir(), t.TempDir()
	for i := range 12 {
		for _, dir := range []string{calm, disturbed} {
			writeFile(t, filepath.Join(dir, "texts", fmt.Sprintf("%02d.txt", i)), someText(200+40*i))
		}
	}
	began := time.Now()
	if runKilled(t, calm, time.Minute) {
		t.Fatal("a run took more than a minute")
	}
	usual := time.Since(began)
	r := rand.New(rand.NewPCG(uint64(began.UnixNano()), 0))
	killed, completed, resumed := 0, 0, 0
	for killed < kills {
		finished := finishedParts(t, disturbed)
		if !runKilled(t, disturbed, time.Duration(r.Int64N(int64(usual)*9/8))) {
			compareWork(t, calm, disturbed)
			compareFinished(t, disturbed, finished)
			if err := os.RemoveAll(filepath.Join(disturbed, "cache")); err != nil {
				t.Fatal(err)
			}
			completed++
			continue
		}
		killed++
		if len(finished) > 0 {
			resumed++
		}
		compareFinished(t, disturbed, finished)
		for _, dir := range preparedDirs(t, disturbed) {
			if err := touchAll(dir, VerifyOpen); err != nil {
				t.Fatalf("after %d kills: %v", killed, err)
			}
		}
	}
	if err := killedWork(disturbed, 0); err != nil {
		t.Fatalf("after %d kills: %v", killed, err)
	}
	compareWork(t, calm, disturbed)
	t.Logf("%d killed before their end, which took %v, %d of them after others that had finished parts; %d completed", killed, usual, resumed, completed)
}

// finishedParts are the files of parts that are done, by their names.
func finishedParts(t *testing.T, dir string) map[string]os.FileInfo {
	t.Helper()
	files := map[string]os.FileInfo{}
	manifests, err := filepath.Glob(filepath.Join(dir, "cache", workPrefix+"*", "part-*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range manifests {
		var m manifest
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatalf("%s is half-written: %v", path, err)
		}
		for _, s := range m.Shards {
			if files[s.File], err = os.Stat(filepath.Join(filepath.Dir(path), s.File)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return files
}

// compareFinished checks that the files that were finished before are the same ones still.
func compareFinished(t *testing.T, dir string, before map[string]os.FileInfo) {
	t.Helper()
	for name, was := range before {
		found, err := filepath.Glob(filepath.Join(dir, "cache", "*", name))
		hidden, _ := filepath.Glob(filepath.Join(dir, "cache", workPrefix+"*", name))
		if found = append(found, hidden...); err != nil || len(found) == 0 {
			t.Fatalf("%s is gone (%v)", name, err)
		}
		is, err := os.Stat(found[0])
		if err != nil {
			t.Fatal(err)
		}
		if !os.SameFile(was, is) || !was.ModTime().Equal(is.ModTime()) {
			t.Errorf("%s was made again", name)
		}
	}
}

// runKilled starts a child, kills it after a while, and says whether it was still
// at work.
func runKilled(t *testing.T, dir string, after time.Duration) bool {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+dir)
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { child.Process.Kill() })
	defer timer.Stop()
	err := child.Wait()
	if err != nil && child.ProcessState.Exited() {
		t.Fatalf("the child failed by itself: %v", err)
	}
	return err != nil
}

func preparedDirs(t *testing.T, dir string) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(dir, "cache", "[0-9a-f]*"))
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// compareWork compares the only corpus of two directories, but for the paths of their
// sources and the digests that go with them, and checks that nothing else was left.
func compareWork(t *testing.T, calm, disturbed string) {
	t.Helper()
	var corpora []*Corpus
	var samples []*Samples
	defer func() {
		for i := range corpora {
			samples[i].Close()
			corpora[i].Close()
		}
	}()
	for _, dir := range []string{calm, disturbed} {
		for _, pattern := range []string{tmpPrefix + "*", workPrefix + "*", "*/part-*", "*/*" + claimSuffix, "*/" + tmpPrefix + "*"} {
			if left, _ := filepath.Glob(filepath.Join(dir, "cache", pattern)); len(left) != 0 {
				t.Errorf("left %v", left)
			}
		}
		dirs := preparedDirs(t, dir)
		if len(dirs) != 1 {
			t.Fatalf("%d prepared corpora", len(dirs))
		}
		c, err := Open(dirs[0], OpenConfig{Verify: VerifyOpen})
		if err != nil {
			t.Fatal(err)
		}
		corpora = append(corpora, c)
		s, err := c.Samples(context.Background(), SampleConfig{Unit: Sentence, MaxTokens: 9})
		if err != nil {
			t.Fatal(err)
		}
		samples = append(samples, s)
	}
	a, b := corpora[0].index, corpora[1].index
	if !reflect.DeepEqual(a.Counts, b.Counts) || corpora[0].ContentDigest() != corpora[1].ContentDigest() || len(a.Shards) != len(b.Shards) {
		t.Fatalf("%+v and %+v", a, b)
	}
	for i := range a.Shards {
		x, err := corpora[0].shard(i)
		if err != nil {
			t.Fatal(err)
		}
		y, err := corpora[1].shard(i)
		if err != nil {
			t.Fatal(err)
		}
		if string(x.data[headerBytes:]) != string(y.data[headerBytes:]) {
			t.Errorf("shard %d differs", i)
		}
	}
	if !reflect.DeepEqual(samples[0].data[sampleHeaderBytes:], samples[1].data[sampleHeaderBytes:]) {
		t.Error("the samples differ")
	}
}

// TestWaiterTakesOver kills the process that holds the lock: the one that waits for
// it must do the work.
func TestWaiterTakesOver(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "texts", "a.txt"), someText(700))
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), childEnv+"="+dir, childDelayEnv+"=1m")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() {
		holder.Process.Kill()
		holder.Wait()
	})
	defer kill()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if left, _ := filepath.Glob(filepath.Join(dir, "cache", workPrefix+"*", "part-*")); len(left) > 0 {
			break // it holds the lock and is at work
		}
		if time.Since(began) > time.Minute {
			t.Fatal("the first process did not begin")
		}
	}
	cfg := killedConfig(dir, 0)
	waited := false
	cfg.Waiting = func() {
		waited = true
		go kill()
	}
	if report := prepare(t, cfg); report.Reused || report.Documents != 700 || !waited {
		t.Errorf("waited %v: %+v", waited, report)
	}
}
