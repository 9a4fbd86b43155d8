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

// FillNext replaces out's second sentence by that of pair i.
func (s *Samples) FillNext(i int64, out *Sample) error {
	file, start, _, err := s.locate(i)
	if err != nil {
		return err
	}
	second, err := s.second(file, start)
	if err != nil {
		return err
	}
	return s.fillNext(file, second, out)
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

// negativeTries is how often Negative draws before it looks at every sample of the pool.
const negativeTries = 32

// Negative returns the pair whose second sentence stands in for the random one of pair i, for [Samples.FillNext]: draw chooses it uniformly in
// the pool. That a random sentence is always somebody's second one keeps a model from telling it by its kind: the first sentence of a document
// is nobody's continuation. It comes from another document unless anyDocument, and is never a sentence of pair i itself. Where the pool has none,
// it is the first that follows the pool in the order. It is a function of its arguments alone. The caller knows by CheckNegatives that there is one.
func (s *Samples) Negative(p Pool, i int64, draw uint64, anyDocument bool) (int64, error) {
	mine, err := s.place(i)
	if err != nil {
		return 0, err
	}
	random := draw
	for range negativeTries {
		j := p.at(int64(randomBelow(&random, uint64(p.length))))
		if ok, err := s.apart(mine, i, j, anyDocument); ok || err != nil {
			return j, err
		}
	}
	var fit []int64
	for k := range p.length {
		j := p.at(k)
		ok, err := s.apart(mine, i, j, anyDocument)
		if err != nil {
			return 0, err
		}
		if ok {
			fit = append(fit, j)
		}
	}
	if len(fit) > 0 {
		return fit[randomBelow(&random, uint64(len(fit)))], nil
	}
	for k := p.length; k < p.total(); k++ {
		j := p.at(k)
		if ok, err := s.apart(mine, i, j, anyDocument); ok || err != nil {
			return j, err
		}
	}
	return 0, fmt.Errorf("shard: pair %d: the corpus has no sentence for a random pair", i)
}

// CheckNegatives is an error where some pair would find no random sentence.
func (s *Samples) CheckNegatives(anyDocument bool) error {
	if anyDocument {
		if s.Len() < 4 { // of three pairs in a row, the middle one has two that share a sentence with it
			return fmt.Errorf("shard: %d pairs of sentences are too few to draw a random sentence from; it takes 4", s.Len())
		}
		return nil
	}
	first, err := s.place(0)
	if err != nil {
		return err
	}
	last, err := s.place(s.Len() - 1)
	if err != nil {
		return err
	}
	if first == last {
		return fmt.Errorf("shard: all pairs of sentences are of one document, so none has a random sentence of another: " +
			"set text_unit (paragraph, line) for smaller documents, or nsp_negatives: any")
	}
	return nil
}

// place is the document that a sample lies in.
type place struct {
	shard    int
	document int64
}

func (s *Samples) place(i int64) (p place, err error) {
	file, start, _, err := s.locate(i)
	if err != nil {
		return place{}, err
	}
	defer faultError(file.path, debug.SetPanicOnFault(true), &err)
	return place{file.number, file.documentAt(start)}, nil
}

// apart tells whether pair j's second sentence may be the random one of pair i, which lies at mine.
func (s *Samples) apart(mine place, i, j int64, anyDocument bool) (bool, error) {
	if j == i {
		return false, nil
	}
	theirs, err := s.place(j)
	if err != nil {
		return false, err
	}
	if theirs != mine {
		return true, nil
	}
	return anyDocument && j != i-1, nil // in one document, the second sentence of pair i-1 is the first of i
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
