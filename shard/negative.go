package shard

import (
	"fmt"
	"runtime/debug"
)

// FillNext replaces out's second sentence by that of a pair.
func (d *Dataset) FillNext(r Ref, out *Sample) error {
	s := d.streams[r.Stream].Samples
	file, start, _, err := s.locate(r.Sample)
	if err != nil {
		return err
	}
	defer file.release()
	second, err := s.second(file, start)
	if err != nil {
		return err
	}
	return s.fillNext(file, second, out)
}

// negativeTries is how often Negative draws before it looks at every sample of the pool.
const negativeTries = 32

// Negative returns the pair whose second sentence stands in for the random one of pair number i of an epoch, for [Dataset.FillNext]: draw chooses it
// uniformly in the pool. That a random sentence is always somebody's second one keeps a model from telling it by its kind: the first sentence of a
// document is nobody's continuation. It comes from another document unless anyDocument, and is never a sentence of pair i itself. Where the pool has
// none, it is the first that follows the pool in the order, and where the epoch has none, the first of the streams. It is a function of its arguments
// alone. The caller knows by CheckNegatives that there is one.
func (d *Dataset) Negative(p Pool, epoch, i int64, draw uint64, anyDocument bool) (Ref, error) {
	mine, err := d.place(d.Ref(epoch, i))
	if err != nil {
		return Ref{}, err
	}
	random := draw
	for range negativeTries {
		j := d.Ref(epoch, p.at(int64(randomBelow(&random, uint64(p.length)))))
		if ok, err := d.apart(mine, j, anyDocument); ok || err != nil {
			return j, err
		}
	}
	var fit []Ref
	for k := range p.length {
		j := d.Ref(epoch, p.at(k))
		ok, err := d.apart(mine, j, anyDocument)
		if err != nil {
			return Ref{}, err
		}
		if ok {
			fit = append(fit, j)
		}
	}
	if len(fit) > 0 {
		return fit[randomBelow(&random, uint64(len(fit)))], nil
	}
	for k := p.length; k < p.total(); k++ {
		j := d.Ref(epoch, p.at(k))
		if ok, err := d.apart(mine, j, anyDocument); ok || err != nil {
			return j, err
		}
	}
	for stream := range d.streams { // an epoch of a part of the samples may be of one document
		for sample := range d.streams[stream].n {
			j := Ref{stream, sample}
			if ok, err := d.apart(mine, j, anyDocument); ok || err != nil {
				return j, err
			}
		}
	}
	return Ref{}, fmt.Errorf("shard: pair %d: the text has no sentence for a random pair", i)
}

// CheckNegatives is an error where some pair would find no random sentence.
func (d *Dataset) CheckNegatives(anyDocument bool) error {
	if len(d.streams) > 1 {
		return nil // another stream has one
	}
	n := d.streams[0].n
	if anyDocument {
		if n < 4 { // of three pairs in a row, the middle one has two that share a sentence with it
			return fmt.Errorf("shard: %d pairs of sentences are too few to draw a random sentence from; it takes 4", n)
		}
		return nil
	}
	first, err := d.place(Ref{0, 0})
	if err != nil {
		return err
	}
	last, err := d.place(Ref{0, n - 1})
	if err != nil {
		return err
	}
	if first.shard == last.shard && first.document == last.document {
		return fmt.Errorf("shard: all pairs of sentences are of one document, so none has a random sentence of another: " +
			"set text_unit (paragraph, line) for smaller documents, or nsp_negatives: any")
	}
	return nil
}

// place is a sample and the document that it lies in.
type place struct {
	Ref
	shard    string
	document int64
}

func (d *Dataset) place(r Ref) (p place, err error) {
	file, start, _, err := d.streams[r.Stream].Samples.locate(r.Sample)
	if err != nil {
		return place{}, err
	}
	defer file.release()
	defer faultError(file.path, debug.SetPanicOnFault(true), &err)
	return place{r, file.path, file.documentAt(start)}, nil
}

// apart tells whether pair j's second sentence may be the random one of the pair at mine.
func (d *Dataset) apart(mine place, j Ref, anyDocument bool) (bool, error) {
	if j == mine.Ref {
		return false, nil
	}
	theirs, err := d.place(j)
	if err != nil {
		return false, err
	}
	if theirs.shard != mine.shard || theirs.document != mine.document { // two streams of one text share its shards
		return true, nil
	}
	return anyDocument && j.Sample != mine.Sample && j.Sample != mine.Sample-1, nil // the second sentence of the pair before is the first of mine
}
