package shard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

func TestOnError(t *testing.T) {
	dir := t.TempDir()
	texts := map[string]string{"a.txt": "good one\nbad \xff here\nthird\n", "b.txt": "fourth\n" + strings.Repeat("long ", 100) + "\nsixth\n"}
	for name, text := range texts {
		writeFile(t, filepath.Join(dir, "texts", name), text)
	}
	cfg := lineConfig(filepath.Join(dir, "cache"), filepath.Join(dir, "texts"))
	cfg.TextUnit, cfg.MaxDocumentBytes, cfg.partBytes = TextLine, 100, 1
	_, err := Prepare(t.Context(), cfg)
	wantError(t, err, "a.txt", "not UTF-8", "line 2")
	cfg.OnError = OnErrorSkip
	report := prepare(t, cfg)
	wantCounts := map[Reason]int64{ReasonNotUTF8: 1, ReasonTooLong: 1}
	if report.Documents != 4 || !reflect.DeepEqual(report.Skipped.Counts, wantCounts) || report.Skipped.Total() != 2 {
		t.Errorf("%+v", report)
	}
	if s := report.Skipped.Reasons(); s != "not UTF-8: 1, too long: 1" {
		t.Error(s)
	}
	for i, want := range []Example{{Path: "a.txt", Line: 2, Offset: 13, Reason: ReasonNotUTF8}, {Path: "b.txt", Line: 2, Offset: 7, Reason: ReasonTooLong}} {
		got := report.Skipped.Examples[i]
		if filepath.Base(got.Path) != want.Path || got.Line != want.Line || got.Offset != want.Offset || got.Reason != want.Reason ||
			!strings.Contains(got.String(), want.Path) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if again := prepare(t, cfg); !again.Reused || !reflect.DeepEqual(again.Skipped, report.Skipped) {
		t.Errorf("found again: %+v", again)
	}
	// What was skipped is not silently taken by a run that is to stop there.
	cfg.OnError = OnErrorStop
	_, err = Prepare(t.Context(), cfg)
	wantError(t, err, "a.txt", "line 2", "2 bad records", "on_error: skip")
	// Once mended, it is another corpus.
	for name := range texts {
		writeFile(t, filepath.Join(dir, "texts", name), "mended\n")
	}
	if report := prepare(t, cfg); report.Documents != 2 || report.Skipped.Total() != 0 {
		t.Errorf("%+v", report)
	}
}

// TestStopReusesWhatSkipMade: parts without a bad record are the same under both.
func TestStopReusesWhatSkipMade(t *testing.T) {
	dir := t.TempDir()
	cfg := partedConfig(t, dir, 3, "")
	writeFile(t, filepath.Join(dir, "texts", "z.txt"), "bad \xff\n")
	if _, err := Prepare(t.Context(), cfg); err == nil {
		t.Fatal("no error")
	}
	before := finishedParts(t, dir)
	cfg.OnError = OnErrorSkip
	report := prepare(t, cfg)
	compareFinished(t, dir, before)
	if len(before) != 3 || report.Parts != 1 || report.Skipped.Total() != 1 {
		t.Errorf("%d files before, %+v", len(before), report)
	}
}

func TestExamplesAreBounded(t *testing.T) {
	var s Skipped
	for i := range 50 {
		s.add(&BadRecord{Path: fmt.Sprint(i), Reason: ReasonNUL})
	}
	s.merge(s)
	if s.Total() != 100 || len(s.Examples) != maxExamples || s.Examples[19].Path != "19" {
		t.Errorf("%d, %+v", s.Total(), s.Examples)
	}
}

// TestSourcesChange has files vanish and change between the digest and the reading.
func TestSourcesChange(t *testing.T) {
	for _, change := range []string{"vanish", "change", "append"} {
		dir := t.TempDir()
		cfg := partedConfig(t, dir, 3, "")
		victim := filepath.Join(dir, "texts", "02.txt")
		done := false
		cfg.Encoder = callback{testEncoder{vocab: 30000}, func() {
			if done {
				return
			}
			done = true
			switch change {
			case "vanish":
				os.Remove(victim)
			case "change":
				os.WriteFile(victim, []byte("another text\n"), 0o644)
			case "append":
				f, _ := os.OpenFile(victim, os.O_APPEND|os.O_WRONLY, 0)
				f.WriteString("\nmore\n")
				f.Close()
			}
		}}
		_, err := Prepare(t.Context(), cfg)
		wantError(t, err, "02.txt")
		if change != "vanish" {
			wantError(t, err, "changed while it was being read")
		}
		// With skip, the work goes on with what is there then.
		if err := os.RemoveAll(cfg.Dir); err != nil {
			t.Fatal(err)
		}
		cfg = partedConfig(t, dir, 3, "")
		done = false
		cfg.OnError = OnErrorSkip
		encoder := cfg.Encoder
		cfg.Encoder = callback{encoder.(testEncoder), func() {
			if !done {
				done = true
				os.Remove(victim)
			}
		}}
		report := prepare(t, cfg)
		if report.Documents != 2+20+21 || report.Skipped.Counts[ReasonVanished] != 1 || len(report.Sources) != 2 {
			t.Errorf("%s: %+v", change, report)
		}
	}
}

// TestVanishedBeforeHashing: a file that goes after it was listed is named, and can be told from other faults.
func TestVanishedBeforeHashing(t *testing.T) {
	cfg := partedConfig(t, t.TempDir(), 1, "")
	gone := filepath.Join(cfg.Paths[0], "gone.txt")
	var changed *changedError
	_, err := openHashCache(&cfg).hash(t.Context(), []string{gone}, new(meter))
	if wantError(t, err, "gone.txt", "vanished", "run again"); !errors.As(err, &changed) {
		t.Error(err)
	}
	if _, _, err = openHashCache(&cfg).hashFile(t.Context(), gone, new(meter)); !errors.As(err, &changed) {
		t.Error(err)
	}
}

// fullDisk fails as a full disk does, after some calls.
type fullDisk struct{ testEncoder }

func (fullDisk) Encode([]string) ([]Encoding, error) { return nil, syscall.ENOSPC }

// TestStorageErrorStops: a fault of the machine is no bad record.
func TestStorageErrorStops(t *testing.T) {
	dir := t.TempDir()
	cfg := partedConfig(t, dir, 2, "")
	cfg.OnError, cfg.Encoder = OnErrorSkip, fullDisk{testEncoder{vocab: 30000}}
	_, err := Prepare(t.Context(), cfg)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	wantError(t, err, "00.txt", "byte 0", "line 1")
	for _, path := range filesBelow(t, cfg.Dir) {
		if !strings.HasPrefix(filepath.Base(path), lockName) {
			t.Errorf("left %s", path)
		}
	}
}
