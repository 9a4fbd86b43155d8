package nccl

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// faulty runs three all-reduces and says how each rank comes out of them; it gives up as a watchdog does: poll, then abort.
func init() {
	roles["faulty"] = func() error {
		files := descriptors()
		var id UniqueID
		must(hex.Decode(id[:], []byte(os.Getenv("TEST_ID"))))
		rank, size := must(strconv.Atoi(os.Getenv("TEST_RANK"))), must(strconv.Atoi(os.Getenv("TEST_SIZE")))
		p := join(id, rank, size)
		limit, err := time.ParseDuration(os.Getenv("TEST_LIMIT"))
		check(err)
		_, at := buffer[float32](p, 64)
		begun := time.Now()
		err = p.comm.Await(limit)
		for k := 1; k <= 3 && err == nil; k++ {
			count, kind := 64, Float32
			if os.Getenv("TEST_MISMATCH") == fmt.Sprint("count ", rank) && k == 2 {
				count = 63
			}
			if os.Getenv("TEST_MISMATCH") == fmt.Sprint("type ", rank) && k == 2 {
				kind = Int32
			}
			if err = p.comm.AllReduce(at, at, count, kind, Sum, Stream(p.stream)); err == ErrInProgress {
				err = p.comm.Await(limit)
			}
			if err == nil {
				err = p.watch(limit)
			}
			if err != nil { // the launch, or what came after it: a kernel may fail before Await has looked
				err = fmt.Errorf("collective %d: %w", k, err)
			}
		}
		fmt.Printf("%v; remote %t system %t usage %t timeout %t\n", err, errors.Is(err, ErrRemote), errors.Is(err, ErrSystem), errors.Is(err, ErrUsage),
			errors.Is(err, ErrTimeout))
		if took := time.Since(begun); took > 10*limit {
			fmt.Println("TOO LATE", took)
		}
		check(p.comm.Abort())
		check(p.cuda.StreamSynchronize(p.stream)) // an abort ends what was on the stream
		check(p.cuda.DestroyStream(p.stream))
		check(p.cuda.Free(at))
		// Threads of the double end a moment after the calls.
		for range 200 {
			if loopbackThreads() == 0 {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if n := loopbackThreads(); n > 0 {
			fmt.Println("LEAK of threads", n)
		}
		if now := descriptors(); now > files {
			fmt.Println("LEAK of descriptors", files, now)
		}
		if maps, _ := os.ReadFile("/proc/self/maps"); strings.Contains(string(maps), "memfd:nccl-loopback") {
			fmt.Println("LEAK of memory")
		}
		return nil
	}
}

// descriptors counts those of the double's kinds that are open: its memory, and processes that it watches.
func descriptors() int {
	n := 0
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		target, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if strings.Contains(target, "memfd:nccl-loopback") || strings.Contains(target, "pidfd") {
			n++
		}
	}
	return n
}

// loopbackThreads counts the threads that the double has named.
func loopbackThreads() int {
	n := 0
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, task := range tasks {
		name, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/comm")
		if strings.HasPrefix(string(name), "loopback") {
			n++
		}
	}
	return n
}

// watch polls the stream and the asynchronous error, as ddp's watchdog does.
func (p *peer) watch(limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		if err := p.comm.AsyncError(); err != nil {
			return err
		}
		done, err := p.cuda.StreamDone(p.stream)
		if err != nil || done {
			return err
		}
		if time.Now().After(deadline) {
			return ErrTimeout
		}
	}
}

// Each fault ends on every rank in a typed error, within the limit, and leaves nothing behind.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name        string
		environment []string
		want        []string // of each of three ranks; "killed" for one that is not there to say
	}{
		{"none", nil, []string{"<nil>", "<nil>", "<nil>"}},
		{"die", []string{"LOOPBACK_FAULT=die:rank=1,at=2"}, []string{"collective 2.*rank 1.*remote true", "killed", "rank 1.*remote true"}},
		{"die unseen", []string{"LOOPBACK_FAULT=die:rank=1,at=2", "LOOPBACK_SILENT=1"}, []string{"timed out", "killed", ""}},
		{"error", []string{"LOOPBACK_FAULT=error:rank=2,at=2,code=2"}, []string{"", "", "collective 2.*system true"}},
		{"error of a peer", []string{"LOOPBACK_FAULT=error:rank=0,at=1,code=6"}, []string{"collective 1.*remote true", "", ""}},
		{"hang", []string{"LOOPBACK_FAULT=hang:rank=0,at=3"}, []string{"collective 3", "collective 3", "collective 3"}},
		{"count", []string{"TEST_MISMATCH=count 1"}, []string{"usage true", "count 63", "usage true"}},
		{"type", []string{"TEST_MISMATCH=type 2"}, []string{"usage true", "usage true", "type 2"}},
		{"init", []string{"LOOPBACK_FAULT=init:rank=1"}, []string{"", "still waits.*timeout true", ""}},
		{"late", []string{"LOOPBACK_FAULT=delay:ms=50", "LOOPBACK_LAUNCH_US=2000"}, []string{"<nil>", "<nil>", "<nil>"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			said, well := ranks(t, "faulty", 3, append([]string{"TEST_LIMIT=1s"}, c.environment...)...)
			for r, want := range c.want {
				if want == "killed" {
					if !strings.Contains(said[r], "signal: killed") {
						t.Errorf("rank %d lives: %s", r, said[r])
					}
					continue
				}
				if !well[r] || !regexp.MustCompile(want).MatchString(said[r]) || strings.Contains(said[r], "LEAK") || strings.Contains(said[r], "TOO LATE") {
					t.Errorf("rank %d: %s; want %s", r, said[r], want)
				}
				if want != "<nil>" && strings.HasPrefix(said[r], "<nil>") {
					t.Errorf("rank %d has no error", r)
				}
			}
		})
	}
}
