package shard

import (
	"fmt"
	"math/bits"
	"runtime/debug"
)

// cutPairs writes an entry for every two sentences of a document that follow each other: the first token of the first, and the number of
// tokens of both as far as they are used.
func (k *sampleCutter) cutPairs(file *shardFile) error {
	for d := range int64(file.h.documents) {
		if !k.counts(d) {
			continue
		}
		first, end := int64(file.u32(file.l.documents, d)), int64(file.u32(file.l.documents, d+1))
		keptBefore := false
		for i := first; i < end; i++ {
			start, stop := k.truncated(file, i)
			if cut := file.sentenceTokens(i) - (stop - start); cut > 0 && end-first > 1 {
				k.report.Cut++
				k.report.CutTokens += cut
			}
			keep, err := k.keeps(file, start, stop)
			if err != nil {
				return err
			}
			if i > first {
				before, beforeStop := k.truncated(file, i-1)
				if err := k.write(before, beforeStop-before+stop-start, keep && keptBefore); err != nil {
					return err
				}
			}
			keptBefore = keep
		}
	}
	return nil
}

// truncated returns the tokens of sentence i that a pair uses.
func (k *sampleCutter) truncated(file *shardFile, i int64) (start, end int64) {
	start, end = file.sentence(i)
	return start, min(end, start+int64(k.cfg.MaxTokens))
}

func (s *shardFile) sentenceTokens(i int64) int64 {
	start, end := s.sentence(i)
	return end - start
}

// pairAt fills out with the pair whose first sentence begins at token start.
func (s *Samples) pairAt(file *shardFile, start int64, out *Sample) (err error) {
	second, err := s.second(file, start)
	if err != nil {
		return err
	}
	_, end := file.sentence(second - 1)
	if out.Tokens, out.WordStart, err = fill(file, start, min(end, start+s.max), out.Tokens, out.WordStart); err != nil {
		return err
	}
	return s.fillNext(file, second, out)
}

// second returns the sentence after the one that begins at token start, in the same document.
func (s *Samples) second(file *shardFile, start int64) (_ int64, err error) {
	defer faultError(file.path, debug.SetPanicOnFault(true), &err)
	i := file.sentenceAt(start)
	if first, end := file.sentence(i); first == start && end < int64(file.h.tokens) && file.documentAt(start) == file.documentAt(end) {
		return i + 1, nil
	}
	return 0, fmt.Errorf("shard: %s: no pair of sentences begins at token %d of %s; %s", s.path, start, file.path, hintDamaged)
}

func (s *Samples) fillNext(file *shardFile, sentence int64, out *Sample) (err error) {
	start, end := file.sentence(sentence)
	out.Next, out.NextWordStart, err = fill(file, start, min(end, start+s.max), out.Next, out.NextWordStart)
	return err
}

// Pool is a part of an order: the samples that one of them finds others in. Its zero value is empty.
type Pool struct {
	order         *Order // nil: the corpus's own order, of samples samples
	epoch         int64
	start, length int64 // positions
	samples       int64
}

// at returns the sample at place k of the pool; from its length on, what follows it in the order, round the end.
func (p Pool) at(k int64) int64 {
	if p.order == nil {
		return (p.start + k) % p.samples
	}
	return p.order.sampleAt(p.epoch, (p.start+k)%p.order.cfg.Samples)
}

func (p Pool) total() int64 {
	if p.order == nil {
		return p.samples
	}
	return p.order.cfg.Samples
}

// randomBelow returns a number in [0, n), each as likely, from the sequence that state goes through (splitmix64, Steele et al. 2014).
func randomBelow(state *uint64, n uint64) uint64 {
	for {
		*state += 0x9e3779b97f4a7c15
		z := *state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		z ^= z >> 31
		if high, low := bits.Mul64(z, n); low >= -n%n {
			return high
		}
	}
}
