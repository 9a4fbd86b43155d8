package shard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestCutParts(t *testing.T) {
	for want, sizes := range map[string][]int64{
		"":                        {},
		"0-1:5":                   {5},
		"0-1:10":                  {10},
		"0-2:10 2-3:1":            {4, 6, 1},
		"0-2:9 2-3:10 3-4:1":      {4, 5, 10, 1},
		"0-1:99 1-2:99 2-3:0":     {99, 99, 0},
		"0-3:12 3-4:2":            {4, 4, 4, 2},
		"0-1:3 1-2:30 2-4:6":      {3, 30, 3, 3},
		"0-4:11 4-5:1000 5-7:4":   {0, 0, 9, 2, 1000, 3, 1},
		"0-1:10 1-2:10 2-3:10":    {10, 10, 10},
		"0-2:9 2-3:11":            {1, 8, 11},
		"0-1:1000 1-3:18 3-4:500": {1000, 9, 9, 500},
	} {
		var sources []Source
		for _, size := range sizes {
			sources = append(sources, Source{Bytes: size})
		}
		var got []string
		for i, p := range cutParts(sources, 10) {
			if p.number != i {
				t.Errorf("part %d has number %d", i, p.number)
			}
			got = append(got, fmt.Sprintf("%d-%d:%d", p.start, p.end, p.bytes))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%v: %s, want %s", sizes, got, want)
		}
	}
}

// TestPublishedIsKept: a node that comes to publish what another has published meanwhile takes that, and leaves its files alone.
func TestPublishedIsKept(t *testing.T) {
	cfg := partedConfig(t, t.TempDir(), 2, "a")
	report := prepare(t, cfg)
	index, err := os.Stat(filepath.Join(report.Dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	x, err := readIndex(report.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	w := newWorkshop(&cfg, x, new(meter))
	if err := os.MkdirAll(w.dir, 0o755); err != nil { // as it was before the other's renaming
		t.Fatal(err)
	}
	maker := newPartMaker(&cfg, x, w.dir, w.meter)
	for i, p := range w.parts {
		if w.done[i], err = maker.make(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if finished, err := w.publish(t.Context()); !finished || err != nil {
		t.Fatalf("finished: %t (%v)", finished, err)
	}
	if now, err := os.Stat(filepath.Join(report.Dir, "index.json")); err != nil || !os.SameFile(index, now) {
		t.Errorf("what was published was replaced (%v)", err)
	}
	if _, err := os.Stat(w.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left (%v)", w.dir, err)
	}
}

// TestSweepLeavesSamples: a node that finds a corpus and tidies up leaves alone what another already writes there.
func TestSweepLeavesSamples(t *testing.T) {
	cfg := partedConfig(t, t.TempDir(), 1, "a")
	report := prepare(t, cfg)
	for _, name := range []string{finishClaim + claimSuffix, ".tmp-b-samples-00.idx-7", ".tmp-b-part-00000.json-7"} {
		writeFile(t, filepath.Join(report.Dir, name), "")
	}
	if again := prepare(t, cfg); !again.Reused {
		t.Fatalf("%+v", again)
	}
	left, _ := filepath.Glob(filepath.Join(report.Dir, tmpPrefix+"*"))
	if len(left) != 1 || filepath.Base(left[0]) != ".tmp-b-samples-00.idx-7" || !swept(report.Dir) {
		t.Errorf("left: %q", left)
	}
}

// partedConfig prepares n files, each a part, in dir.
func partedConfig(t *testing.T, dir string, n int, host string) PrepareConfig {
	t.Helper()
	for i := range n {
		writeFile(t, filepath.Join(dir, "texts", fmt.Sprintf("%02d.txt", i)), fmt.Sprintf("file%d\n\n", i)+someText(20+i))
	}
	cfg := lineConfig(filepath.Join(dir, "cache"), filepath.Join(dir, "texts"))
	cfg.partBytes, cfg.host = 1, host
	return cfg
}

// TestNodesShare has two nodes prepare the same texts: each makes some of the parts, and both end with what one alone makes.
func TestNodesShare(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir) // so that both corpora have sources of the same name
	const parts = 12
	alone := prepare(t, partedConfig(t, ".", parts, "alone"))
	want := map[string]string{}
	for _, path := range filesBelow(t, alone.Dir) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want[filepath.Base(path)] = string(data)
	}
	if alone.Parts != parts {
		t.Errorf("alone: %d parts", alone.Parts)
	}
	if err := os.RemoveAll(alone.Dir); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	reports := make([]Report, 2)
	for i := range reports {
		group.Go(func() {
			cfg := partedConfig(t, ".", 0, fmt.Sprint("node", i))
			cfg.Encoder = testEncoder{vocab: 30000, delay: 10 * time.Millisecond}
			reports[i] = prepare(t, cfg)
		})
	}
	group.Wait()
	if a, b := reports[0], reports[1]; a.Dir != alone.Dir || b.Dir != a.Dir || a.Parts == 0 || b.Parts == 0 || a.Parts+b.Parts != parts {
		t.Errorf("%s with %d parts and %s with %d; alone %s", a.Dir, a.Parts, b.Dir, b.Parts, alone.Dir)
	}
	got := filesBelow(t, "cache")
	for _, path := range got {
		if name := filepath.Base(path); strings.HasPrefix(name, lockName) || name == hashCacheName {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(data) != want[filepath.Base(path)] {
			t.Errorf("%s is not what one node makes", path)
		}
		delete(want, filepath.Base(path))
	}
	if len(want) != 0 {
		t.Errorf("not made: %d files", len(want))
	}
}

func filesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestClaimTakenOver kills a node in the middle of a part: another one waits for its claim to stand still, and makes the part.
func TestClaimTakenOver(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "texts", "a.txt"), someText(700))
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), childEnv+"="+dir, childDelayEnv+"=1m", childHostEnv+"=dead")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer holder.Wait()
	defer holder.Process.Kill()
	waitFor(t, func() bool {
		left, _ := filepath.Glob(filepath.Join(dir, "cache", workPrefix+"*", "part-*"+claimSuffix))
		return len(left) > 0
	})
	cfg := killedConfig(dir, 0)
	cfg.host, cfg.claimStale = "alive", time.Hour
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := Prepare(ctx, cfg); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a claim that is young was not honoured: %v", err)
	}
	holder.Process.Kill()
	cfg.claimStale = 300 * time.Millisecond
	if report := prepare(t, cfg); report.Documents != 700 || report.Parts != 1 {
		t.Errorf("%+v", report)
	}
}

func waitFor(t *testing.T, what func() bool) {
	t.Helper()
	for began := time.Now(); !what(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatal("nothing happened for a minute")
		}
	}
}

// TestClaimIsRenewed watches a claim for longer than it may stand still.
func TestClaimIsRenewed(t *testing.T) {
	cfg := PrepareConfig{host: "a", claimStale: 60 * time.Millisecond}
	owner := &workshop{cfg: &cfg, dir: t.TempDir(), seen: map[string]standing{}}
	release, err := owner.claim(t.Context(), "x")
	if err != nil || release == nil {
		t.Fatal(err)
	}
	other := cfg
	other.host, other.claimStale = "b", 500*time.Millisecond
	watcher := &workshop{cfg: &other, dir: owner.dir, seen: map[string]standing{}}
	for range 70 {
		if taken, err := watcher.claim(t.Context(), "x"); taken != nil || err != nil {
			t.Fatalf("a claim that is renewed was taken over: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	release()
	if taken, err := watcher.claim(t.Context(), "x"); taken == nil || err != nil {
		t.Fatalf("a claim that was given back could not be taken: %v", err)
	} else {
		taken()
	}
}

// TestStoppedWorkGoesOn stops in the middle and goes on: what was finished, in its own files, stays.
func TestStoppedWorkGoesOn(t *testing.T) {
	dir := t.TempDir()
	cfg := partedConfig(t, dir, 6, "")
	ctx, cancel := context.WithCancel(context.Background())
	calls := 0
	cfg.Encoder = callback{testEncoder{vocab: 30000}, func() {
		if calls++; calls == 4 {
			cancel()
		}
	}}
	cfg.Workers = 1
	if _, err := Prepare(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	before := finishedParts(t, dir)
	if len(before) < 2 {
		t.Fatalf("%d files are finished", len(before))
	}
	ended, end := context.WithCancel(context.Background())
	end() // before it has looked at any part
	opts, err := cfg.check()
	if err != nil {
		t.Fatal(err)
	}
	sources, err := openHashCache(&cfg).hash(t.Context(), partPaths(t, dir), new(meter))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := build(ended, &cfg, cfg.newIndex(opts, sources), new(meter)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	report := prepare(t, cfg)
	compareFinished(t, dir, before)
	if report.Parts != 6-len(before) || report.Documents != 6+20+21+22+23+24+25 {
		t.Errorf("%d parts were made after %d: %+v", report.Parts, len(before), report)
	}
}

func partPaths(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := listSources([]string{filepath.Join(dir, "texts")})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// callback calls before it encodes.
type callback struct {
	testEncoder
	call func()
}

func (e callback) Encode(texts []string) ([]Encoding, error) {
	e.call()
	return e.testEncoder.Encode(texts)
}

func TestStaleWorkIsRemoved(t *testing.T) {
	dir := t.TempDir()
	cfg := partedConfig(t, dir, 1, "")
	old := time.Now().Add(-workKept - time.Hour)
	for _, name := range []string{workPrefix + "old", workPrefix + "young", tmpPrefix + "elsewhere-old", tmpPrefix + "elsewhere-young"} {
		path := filepath.Join(cfg.Dir, name, "part-00000.json")
		writeFile(t, path, "{}")
		when := old
		if strings.HasSuffix(name, "young") {
			when = time.Now()
		}
		for _, p := range []string{path, filepath.Dir(path)} {
			if err := os.Chtimes(p, when, when); err != nil {
				t.Fatal(err)
			}
		}
	}
	prepare(t, cfg)
	var left []string
	for _, pattern := range []string{workPrefix + "*", tmpPrefix + "*"} {
		found, _ := filepath.Glob(filepath.Join(cfg.Dir, pattern))
		for _, path := range found {
			left = append(left, filepath.Base(path))
		}
	}
	if want := []string{workPrefix + "young", tmpPrefix + "elsewhere-young"}; !reflect.DeepEqual(left, want) {
		t.Errorf("left %v, want %v", left, want)
	}
}

// TestDamagedManifest: a part whose manifest or shard is not what it should be is made again.
func TestDamagedManifest(t *testing.T) {
	dir := t.TempDir()
	cfg := partedConfig(t, dir, 3, "")
	good := prepare(t, cfg)
	want := everything(t, good.Dir)
	x, err := readIndex(good.Dir)
	if err != nil {
		t.Fatal(err)
	}
	parts := cutParts(x.Sources, 1)
	m := new(meter)
	for name, damage := range map[string]func(dir string) error{
		"half a manifest": func(dir string) error { return os.Truncate(filepath.Join(dir, manifestName(1)), 50) },
		"no shard":        func(dir string) error { return os.Remove(filepath.Join(dir, shardName(1, 0))) },
		"half a shard":    func(dir string) error { return os.Truncate(filepath.Join(dir, shardName(1, 0)), 100) },
		"another's version": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, manifestName(1)), []byte(`{"format":"ddprun-part","version":1}`), 0o644)
		},
	} {
		if err := os.RemoveAll(good.Dir); err != nil {
			t.Fatal(err)
		}
		w := newWorkshop(&cfg, x, m)
		if _, err := cfg.check(); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(w.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		maker := newPartMaker(&cfg, x, w.dir, m)
		for _, p := range parts {
			if _, err := maker.make(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		if err := damage(w.dir); err != nil {
			t.Fatal(err)
		}
		if report := prepare(t, cfg); report.Parts != 1 || !reflect.DeepEqual(everything(t, report.Dir), want) {
			t.Errorf("%s: %+v", name, report)
		}
	}
}
