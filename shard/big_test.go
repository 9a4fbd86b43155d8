package shard

import (
	"bufio"
	"fmt"
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
		t.Skip("writes 1.3 GiB; set DDPRUN_TEST_ALL=1")
	}
	dir := t.TempDir()
	chunk := someText(10000)
	size := 0
	write := func(name string, least int) {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		out := bufio.NewWriter(f)
		for n := 0; n < least; {
			written, _ := out.WriteString(chunk)
			n += written
			size += written
		}
		if err := out.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// One file that is larger than the memory, and many that are not.
	write("huge.txt", 1<<30)
	for i := range 300 {
		write(fmt.Sprintf("small-%03d.txt", i), 1<<20)
	}
	cfg := lineConfig(filepath.Join(dir, "cache"), dir)
	cfg.Encoder = wordEncoder{testEncoder{vocab: 1 << 16}}
	began := time.Now()
	report := prepare(t, cfg)
	took := time.Since(began)
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MiB in %v, %.0f MB/s; %d parts, %d shards; all tests so far: peak memory %d MiB, %d s of processor time",
		size>>20, took, float64(size)/1e6/took.Seconds(), report.Parts, report.Shards, usage.Maxrss>>10, usage.Utime.Sec+usage.Stime.Sec)
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
