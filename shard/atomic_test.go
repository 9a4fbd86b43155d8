package shard

import (
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"
)

func TestPrepareMendsDamage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.txt")
	writeFile(t, path, someText(50))
	cfg := lineConfig(filepath.Join(dir, "cache"), path)
	report := prepare(t, cfg)
	want := everything(t, report.Dir)
	for _, damage := range []struct {
		name string
		do   func() error
	}{
		{"no index", func() error { return os.Remove(filepath.Join(report.Dir, indexName)) }},
		{"truncated index", func() error { return os.Truncate(filepath.Join(report.Dir, indexName), 100) }},
		{"no shard", func() error { return os.Remove(filepath.Join(report.Dir, shardName(0, 0))) }},
		{"truncated shard", func() error { return os.Truncate(filepath.Join(report.Dir, shardName(0, 0)), 100) }},
		{"half-written", func() error {
			writeFile(t, filepath.Join(cfg.Dir, tmpPrefix+thisHost()+"-x", "shard-00000-00000.bin"), "half")
			return os.Remove(filepath.Join(report.Dir, indexName))
		}},
	} {
		if err := damage.do(); err != nil {
			t.Fatal(err)
		}
		if got := prepare(t, cfg); got.Reused || !reflect.DeepEqual(everything(t, got.Dir), want) {
			t.Errorf("%s: %+v", damage.name, got)
		}
		if left, _ := filepath.Glob(filepath.Join(cfg.Dir, tmpPrefix+"*")); len(left) != 0 {
			t.Errorf("%s: left %v", damage.name, left)
		}
	}
}

func TestPrepareAtTheSameTime(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.txt")
	writeFile(t, path, someText(50))
	cfg := lineConfig(filepath.Join(dir, "cache"), path)
	cfg.Encoder = testEncoder{vocab: 30000, delay: 100 * time.Millisecond}
	var group sync.WaitGroup
	reports := make([]Report, 4)
	for i := range reports {
		group.Go(func() { reports[i] = prepare(t, cfg) })
	}
	group.Wait()
	built := 0
	for _, report := range reports {
		if !report.Reused {
			built++
		}
		if report.Dir != reports[0].Dir {
			t.Errorf("%s and %s", report.Dir, reports[0].Dir)
		}
	}
	if built != 1 {
		t.Errorf("%d of 4 built the shards", built)
	}
}
