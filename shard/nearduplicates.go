package shard

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"sync"
)

// bucketCompared bounds what a crowd of documents in one bucket costs: each is compared with so many before it.
const bucketCompared = 64

// nearSearch finds groups of documents of which each is like another one of the group: connected components, as datatrove and text-dedup
// build them, since they depend neither on the order in which pairs are found nor on how the work is shared. (The price: the ends of
// a long chain may be unlike each other.) The first document of a group stays.
type nearSearch struct {
	bands      bands
	least      int      // equal minima of a pair that counts as near
	numbers    *scratch // of each slot's document
	signatures *scratch
	slots      int64

	mu     sync.Mutex
	parent *scratch // of each slot in its component's tree; roots are the smallest
}

// dropNear marks each training document that belongs to a group with an earlier one, or with one of the evaluation.
func (k *cleaner) dropNear(ctx context.Context) (err error) {
	s := &nearSearch{bands: bandsFor(k.cfg.NearThreshold), least: int(math.Ceil(k.cfg.NearThreshold*signatureHashes - 1e-9))}
	defer func() {
		s.numbers.close()
		s.signatures.close()
		s.parent.close()
	}()
	first, err := k.nearSlots(ctx, s)
	if err != nil {
		return err
	}
	if err := k.signAll(ctx, s, first); err != nil {
		return err
	}
	if err := s.compare(ctx, k.cfg.Threads, k.cfg.PassDocuments); err != nil {
		return err
	}
	defer faultError(s.parent.path, debug.SetPanicOnFault(true), &err)
	for slot := range uint64(s.slots) {
		n, root := int64(s.numbers.u64(int64(slot))), s.find(slot)
		if root != slot && n >= k.evalDocuments {
			k.drop(n, nearDuplicate, int64(s.numbers.u64(int64(root))))
		}
	}
	return nil
}

// nearSlots numbers the documents that are left, and returns the first slot of each shard.
func (k *cleaner) nearSlots(ctx context.Context, s *nearSearch) ([]int64, error) {
	first := make([]int64, len(k.shards))
	for i, at := range k.shards {
		first[i] = s.slots
		for n := at.first; n < at.first+at.documents; n++ {
			if k.reasons.data[n] == byte(counts) {
				s.slots++
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	var err error
	for _, part := range []struct {
		room  **scratch
		bytes int64
	}{{&s.numbers, 8}, {&s.parent, 8}, {&s.signatures, signatureBytes}} {
		if *part.room, err = newScratch(k.dir, part.bytes*s.slots); err != nil {
			return nil, err
		}
	}
	return first, nil
}

// signAll reads the documents that are left and makes their signatures, over all threads.
func (k *cleaner) signAll(ctx context.Context, s *nearSearch, first []int64) error {
	hasher := newMinHasher(nearSeed)
	return parallel(ctx, k.cfg.Threads, len(k.shards), func() func(i int) error {
		var sig signature
		var tokens []uint32
		return func(i int) error {
			slot := first[i]
			return k.eachOf(ctx, i, func(n int64, file *shardFile, d int64) (err error) {
				if k.reasons.data[n] != byte(counts) {
					return nil
				}
				start, end := file.document(d)
				if tokens, err = file.appendTokens(tokens[:0], start, end); err != nil {
					return err
				}
				hasher.sign(&sig, tokens)
				sig.encode(s.signatures.data[slot*signatureBytes:])
				s.numbers.setU64(slot, uint64(n))
				s.parent.setU64(slot, uint64(slot))
				slot++
				return nil
			})
		}
	})
}

// compare joins documents that agree in a band and whose signatures are near enough. Each band is gone through in passes over ranges of its
// hashes, so that the tables of all threads hold about tableDocuments together.
func (s *nearSearch) compare(ctx context.Context, threads int, tableDocuments int64) error {
	atMost := max(1, tableDocuments/int64(threads))
	split := passesFor(s.slots, atMost)
	jobs := s.bands.number * int(split.number)
	var rooms []*scratch
	defer func() {
		for _, r := range rooms {
			r.close()
		}
	}()
	return parallel(ctx, threads, jobs, func() func(i int) error {
		table := newHashTable(min(s.slots, atMost))
		s.mu.Lock()
		// The slot before each in its bucket, plus 1.
		previous, roomErr := newScratch(s.parent.path, 8*s.slots)
		rooms = append(rooms, previous)
		s.mu.Unlock()
		return func(i int) (err error) {
			if roomErr != nil {
				return roomErr
			}
			defer faultError(s.parent.path, debug.SetPanicOnFault(true), &err)
			table.clear()
			band, pass := i/int(split.number), uint64(i%int(split.number))
			for slot := range uint64(s.slots) {
				if slot%4096 == 0 && ctx.Err() != nil {
					return ctx.Err()
				}
				key := s.bands.key(s.signature(slot), band)
				if split.of(key) != pass {
					continue
				}
				bucket := table.at(key, func(uint64) bool { return true })
				previous.setU64(int64(slot), bucket.value)
				s.join(slot, previous)
				table.put(bucket, slot)
			}
			return nil
		}
	})
}

func (s *nearSearch) signature(slot uint64) []byte {
	return s.signatures.data[slot*signatureBytes:][:signatureBytes]
}

// join compares a document with those before it in its bucket.
func (s *nearSearch) join(slot uint64, previous *scratch) {
	other := previous.u64(int64(slot))
	for range bucketCompared {
		if other == 0 {
			return
		}
		if !s.together(slot, other-1) && equalMinima(s.signature(slot), s.signature(other-1)) >= s.least {
			s.unite(slot, other-1)
		}
		other = previous.u64(int64(other - 1))
	}
}

func (s *nearSearch) together(a, b uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(a) == s.find(b)
}

func (s *nearSearch) unite(a, b uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, b = s.find(a), s.find(b)
	s.parent.setU64(int64(max(a, b)), min(a, b))
}

// find returns the smallest slot of a component; the way there is halved on each call.
func (s *nearSearch) find(a uint64) uint64 {
	for {
		up := s.parent.u64(int64(a))
		if up == a {
			return a
		}
		above := s.parent.u64(int64(up))
		s.parent.setU64(int64(a), above)
		a = above
	}
}

// parallel runs jobs 0 to n - 1 on so many goroutines and returns the first error, after which no job begins. newWorker is called once by each
// goroutine.
func parallel(ctx context.Context, threads, n int, newWorker func() func(i int) error) error {
	var (
		mu    sync.Mutex
		next  int
		first error
		group sync.WaitGroup
	)
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if first == nil && ctx.Err() != nil {
			first = fmt.Errorf("shard: %w", ctx.Err())
		}
		if first != nil || next == n {
			return 0, false
		}
		next++
		return next - 1, true
	}
	for range min(threads, n) {
		group.Go(func() {
			work := newWorker()
			for i, ok := take(); ok; i, ok = take() {
				if err := work(i); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	return first
}
