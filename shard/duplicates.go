package shard

import (
	"context"
	"fmt"
	"math/bits"
)

// hashTable maps 64-bit hashes to numbers, first come, with open addressing in one array: 16 bytes a slot.
type hashTable struct {
	slots []tableSlot // a power of two
	used  int
}

type tableSlot struct {
	key   uint64
	value uint64 // plus 1; 0: empty
}

// newHashTable makes a table for about so many entries.
func newHashTable(expect int64) *hashTable {
	return &hashTable{slots: make([]tableSlot, 1<<bits.Len64(uint64(expect+expect/4+8)))}
}

func (t *hashTable) clear() {
	clear(t.slots)
	t.used = 0
}

// at returns the slot of the key for which same holds, or an empty one with that key.
func (t *hashTable) at(key uint64, same func(value uint64) bool) *tableSlot {
	if t.used >= len(t.slots)/8*7 {
		t.grow()
	}
	for i := key; ; i++ {
		slot := &t.slots[i&uint64(len(t.slots)-1)]
		if slot.value == 0 {
			slot.key = key
			return slot
		}
		if slot.key == key && same(slot.value-1) {
			return slot
		}
	}
}

func (t *hashTable) put(slot *tableSlot, value uint64) {
	if slot.value == 0 {
		t.used++
	}
	slot.value = value + 1
}

func (t *hashTable) grow() {
	old := t.slots
	t.slots, t.used = make([]tableSlot, 2*len(old)), 0
	for _, slot := range old {
		if slot.value != 0 {
			t.put(t.at(slot.key, func(uint64) bool { return false }), slot.value-1)
		}
	}
}

// passes is how many times n hashes are gone through so that a pass sees about atMost of them, and the pass that a hash falls in. Equal hashes
// fall in one pass.
type passes struct{ number uint64 }

func passesFor(n, atMost int64) passes { return passes{uint64(max(1, (n+atMost-1)/atMost))} }

func (p passes) of(hash uint64) uint64 {
	high, _ := bits.Mul64(hash, p.number)
	return high
}

// dropExact marks each training document whose hash an earlier document or one of the evaluation has. Hashes are compared in passes over ranges of
// their values: memory is a table of cfg.PassDocuments, however many documents there are and however often one of them comes again.
func (k *cleaner) dropExact(ctx context.Context) error {
	split := passesFor(k.documents, k.cfg.PassDocuments)
	table := newHashTable(min(k.documents, k.cfg.PassDocuments))
	for pass := range split.number {
		table.clear()
		err := k.each(ctx, func(n int64, file *shardFile, d int64) error {
			if k.reasons.data[n] != byte(counts) {
				return nil
			}
			hash := file.docHash(d)
			key := le.Uint64(hash[:])
			if split.of(key) != pass {
				return nil
			}
			var err error
			slot := table.at(key, func(first uint64) bool {
				other, e := k.hash(int64(first))
				err = e
				return e != nil || other == hash
			})
			switch {
			case err != nil:
				return err
			case slot.value == 0:
				table.put(slot, uint64(n))
			case n < k.evalDocuments: // they are all kept
			default:
				k.drop(n, exactDuplicate, int64(slot.value-1))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// hash is the hash of document n.
func (k *cleaner) hash(n int64) ([hashBytes]byte, error) {
	file, d, err := k.find(n)
	if err != nil {
		return [hashBytes]byte{}, fmt.Errorf("document %d: %w", n, err)
	}
	defer file.release()
	return file.docHash(d), nil
}
