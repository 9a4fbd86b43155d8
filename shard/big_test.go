package shard

import (
	"bufio"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPrepareMemory prepares a text far larger than the memory that it may take.
func TestPrepareMemory(t *testing.T) {
	if os.Getenv("DDPRUN_TEST_ALL") == "" {
		t.Skip("writes 1 GiB; set DDPRUN_TEST_ALL=1")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "a.txt")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	out := bufio.NewWriter(f)
	chunk := someText(10000)
	size := 0
	for size < 1<<30 {
		n, _ := out.WriteString(chunk)
		size += n
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := lineConfig(filepath.Join(dir, "cache"), path)
	cfg.Encoder = wordEncoder{testEncoder{vocab: 1 << 16}}
	began := time.Now()
	report := prepare(t, cfg)
	took := time.Since(began)
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MiB in %v, %.0f MB/s; %d shards; all tests so far: peak memory %d MiB, %d s of processor time",
		size>>20, took, float64(size)/1e6/took.Seconds(), report.Shards, usage.Maxrss>>10, usage.Utime.Sec+usage.Stime.Sec)
	if usage.Maxrss>>10 > 500 {
		t.Error("more than 500 MiB")
	}
	began = time.Now()
	s := samplesOf(t, open(t, report.Dir), SampleConfig{Unit: Sentence, MaxTokens: 128})
	t.Logf("%d samples in %v", s.Len(), time.Since(began))

	const reads = 1 << 20
	r := rand.New(rand.NewPCG(1, 2))
	var sample Sample
	began = time.Now()
	for range reads {
		if err := s.At(r.Int64N(s.Len()), &sample); err != nil {
			t.Fatal(err)
		}
	}
	each := time.Since(began) / reads
	t.Logf("random access: %v a sample, the first use of shards included", each)
	if each > 20*time.Microsecond {
		t.Error("more than 20 us")
	}
}
