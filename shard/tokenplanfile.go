package shard

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

const (
	planMagic       = "ddpplan\x00"
	planVersion     = 1
	planHeaderBytes = 104
	planSummedFrom  = 48
)

// planHeader is the start of a plan of micro-batches, as it lies in the file. See docs/shard-format.md.
type planHeader []byte

func (h planHeader) checksum() []byte { return h[16:48] }
func (h planHeader) lanes() int64     { return int64(le.Uint64(h[80:])) }
func (h planHeader) batches() int64   { return int64(le.Uint64(h[88:])) }
func (h planHeader) steps() int64     { return int64(le.Uint64(h[96:])) }

// writePlan writes the ends of each lane's micro-batches.
func writePlan(path string, key [sha256.Size]byte, lanes [][]uint64, dropLast bool) error {
	h := make(planHeader, planHeaderBytes)
	copy(h, planMagic)
	le.PutUint32(h[8:], planVersion)
	copy(h[48:], key[:])
	first, longest, shortest := []uint64{0}, 0, len(lanes[0])
	for _, ends := range lanes {
		first = append(first, first[len(first)-1]+uint64(len(ends)))
		longest, shortest = max(longest, len(ends)), min(shortest, len(ends))
	}
	if dropLast {
		longest = shortest
	}
	for i, v := range []uint64{uint64(len(lanes)), first[len(lanes)], uint64(longest)} {
		le.PutUint64(h[80+8*i:], v)
	}
	err := writeFileAtomic(path, func(f *os.File) error {
		sum := sha256.New()
		out := bufio.NewWriterSize(f, 1<<20)
		if _, err := out.Write(h[:planSummedFrom]); err != nil {
			return err
		}
		both := io.MultiWriter(out, sum)
		for _, part := range append([][]byte{h[planSummedFrom:], bytes64(first)}, func() (parts [][]byte) {
			for _, ends := range lanes {
				parts = append(parts, bytes64(ends))
			}
			return parts
		}()...) {
			if _, err := both.Write(part); err != nil {
				return err
			}
		}
		if err := out.Flush(); err != nil {
			return err
		}
		_, err := f.WriteAt(sum.Sum(nil), 16)
		return err
	})
	if err != nil {
		return fmt.Errorf("shard: plan %s: %w", path, err)
	}
	return nil
}

// openPlan maps a plan and checks all of it.
func openPlan(path string, key [sha256.Size]byte) (*TokenPlan, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("shard: %w", err)
	}
	if info.Size() < planHeaderBytes {
		return nil, fmt.Errorf("shard: %s has %d bytes, too few for a plan", path, info.Size())
	}
	data, _, err := mapFile(path, info.Size())
	if err != nil {
		return nil, err
	}
	t := &TokenPlan{path: path, data: data, h: planHeader(data[:planHeaderBytes])}
	if err := t.check(key); err != nil {
		_ = unix.Munmap(data)
		return nil, fmt.Errorf("shard: %s %w", path, err)
	}
	return t, nil
}

func (t *TokenPlan) check(key [sha256.Size]byte) (err error) {
	defer faultError(t.path, debug.SetPanicOnFault(true), &err)
	if string(t.h[:8]) != planMagic {
		return fmt.Errorf("is no plan of micro-batches (magic %q)", t.h[:8])
	}
	if v := le.Uint32(t.h[8:]); v != planVersion {
		return fmt.Errorf("has format version %d; this program reads version %d", v, planVersion)
	}
	if sum := sha256.Sum256(t.data[planSummedFrom:]); string(sum[:]) != string(t.h.checksum()) {
		return fmt.Errorf("is damaged: its checksum is not that of its contents")
	}
	if string(t.h[48:80]) != string(key[:]) {
		return fmt.Errorf("is the plan of other micro-batches")
	}
	if words := (int64(len(t.data)) - planHeaderBytes) / 8; words != t.h.lanes()+1+t.h.batches() {
		return fmt.Errorf("has %d bytes, and counts %d micro-batches in %d lanes", len(t.data), t.h.batches(), t.h.lanes())
	}
	return nil
}
