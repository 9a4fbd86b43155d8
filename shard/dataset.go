package shard

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"sync/atomic"
)

// Stream is samples that a Dataset mixes with others.
type Stream struct {
	Name    string // for messages
	Samples *Samples
	// Weight is how often an epoch takes each sample: floor(Weight) times, and round of what remains times their number once more, other ones in
	// each epoch. 0 means 1.
	Weight float64
	// Share, where all streams of a Dataset have one, takes the place of Weight: its part of the sum of all shares is the stream's part of
	// an epoch, which has as many samples as all streams together.
	Share float64
}

// Dataset is the samples of an epoch, numbered from 0: the streams one after another, each as often as it weighs. Where all weights are whole, a number is the same
// sample in every epoch. Which samples are taken once more than others is a function of (seed, epoch). Several goroutines may use it.
type Dataset struct {
	seed    uint64
	streams []datasetStream
	total   int64
	digest  string
}

// datasetStream is a stream's part of the numbers: first to first + copies n are its n samples over and over, then come extra more.
type datasetStream struct {
	Stream
	first, n, copies, extra int64
	// fronts are the orders of the epochs used last, an even and an odd one, whose first samples are the extra ones.
	fronts [2]atomic.Pointer[epochSequence]
}

type epochSequence struct {
	epoch int64
	*blockSequence
}

// StreamCount is a stream's part of an epoch.
type StreamCount struct {
	Name    string
	Samples int64 // that it has
	Epoch   int64 // that an epoch takes of it, with those that come several times
	Report  SampleReport
}

// Ref is a sample of a stream, both counted from 0.
type Ref struct {
	Stream int
	Sample int64
}

// maxWeight keeps the counts of an epoch within their bounds.
const maxWeight = 1 << 20

// NewDataset mixes streams, which it borrows. One stream of weight 1 is the stream itself, with its digest.
func NewDataset(seed uint64, streams ...Stream) (*Dataset, error) {
	if err := checkStreams(streams); err != nil {
		return nil, err
	}
	all, shares, before := int64(0), 0.0, 0.0
	for _, s := range streams {
		all += s.Samples.Len()
		shares += s.Share
	}
	d := &Dataset{seed: seed, streams: make([]datasetStream, len(streams))}
	var digests []StreamDigest
	for i, s := range streams {
		n := s.Samples.Len()
		count := int64(math.Floor(s.weight()))*n + int64(math.Round((s.weight()-math.Floor(s.weight()))*float64(n)))
		if shares > 0 { // of cumulated shares, so that the counts add up to all samples
			count = int64(math.Round((before+s.Share)/shares*float64(all))) - int64(math.Round(before/shares*float64(all)))
			before += s.Share
		}
		if count < 1 {
			return nil, fmt.Errorf("shard: stream %s: its weight or share leaves none of its %d samples in an epoch; raise it or remove the stream", s.Name, n)
		}
		at := &d.streams[i]
		at.Stream, at.first, at.n, at.copies, at.extra = s, d.total, n, count/n, count%n
		if d.total += count; d.total > 1<<48 {
			return nil, fmt.Errorf("shard: the streams have more than 2^48 samples an epoch")
		}
		digests = append(digests, StreamDigest{s.Samples.Digest(), s.Weight, s.Share})
	}
	d.digest = DatasetDigest(seed, digests...)
	return d, nil
}

func (s *Stream) weight() float64 {
	if s.Weight == 0 {
		return 1
	}
	return s.Weight
}

func checkStreams(streams []Stream) error {
	if len(streams) == 0 {
		return errors.New("shard: a dataset of no streams")
	}
	sharing := 0
	for _, s := range streams {
		if !(s.weight() > 0 && s.weight() <= maxWeight) || !(s.Share >= 0 && s.Share <= maxWeight) { // NaN too
			return fmt.Errorf("shard: stream %s has weight %v and share %v; they are above 0 and at most %d", s.Name, s.weight(), s.Share, maxWeight)
		}
		if s.Share > 0 {
			sharing++
		}
	}
	if sharing != 0 && sharing != len(streams) {
		return fmt.Errorf("shard: %d of %d streams have a share; it is all or none", sharing, len(streams))
	}
	return nil
}

// Len is the number of samples of an epoch, the same in each.
func (d *Dataset) Len() int64 { return d.total }

// Digest names the samples and the mixture, in hexadecimal: equal digests, equal numbers.
func (d *Dataset) Digest() string { return d.digest }

// Streams says what an epoch takes of each stream, in order.
func (d *Dataset) Streams() []StreamCount {
	var counts []StreamCount
	for i := range d.streams {
		s := &d.streams[i]
		counts = append(counts, StreamCount{s.Name, s.n, s.copies*s.n + s.extra, s.Samples.Report()})
	}
	return counts
}

// CutShare is the part of all streams' tokens that truncation dropped.
func (d *Dataset) CutShare() float64 {
	var all SampleReport
	for i := range d.streams {
		r := d.streams[i].Samples.Report()
		all.Tokens, all.LeftOutTokens, all.CutTokens = all.Tokens+r.Tokens, all.LeftOutTokens+r.LeftOutTokens, all.CutTokens+r.CutTokens
	}
	return all.CutShare()
}

// Ref returns the sample that a number of an epoch stands for. It panics if number is not in [0, Len).
func (d *Dataset) Ref(epoch, number int64) Ref {
	if number < 0 || number >= d.total || epoch < 0 {
		panic(fmt.Sprintf("shard: sample %d of %d in epoch %d", number, d.total, epoch))
	}
	i := 0
	if len(d.streams) > 1 {
		i = sort.Search(len(d.streams)-1, func(i int) bool { return d.streams[i+1].first > number })
	}
	s := &d.streams[i]
	k := number - s.first
	if k < s.copies*s.n {
		return Ref{i, k % s.n}
	}
	return Ref{i, s.front(d.seed, i, epoch).at(k - s.copies*s.n)}
}

// front is the order of a stream's samples whose first ones an epoch takes once more.
func (s *datasetStream) front(seed uint64, i int, epoch int64) *blockSequence {
	cache := &s.fronts[epoch&1]
	if f := cache.Load(); f != nil && f.epoch == epoch {
		return f.blockSequence
	}
	f := &epochSequence{epoch, newBlockSequence(s.n, blockSize(s.n, 1), stream(purposeExtra, seed, uint64(epoch), uint32(i), 0))}
	cache.Store(f)
	return f.blockSequence
}

// At fills out with the sample of a number, as [Samples.At] does; its ID is the number.
func (d *Dataset) At(epoch, number int64, out *Sample) error {
	r := d.Ref(epoch, number)
	err := d.streams[r.Stream].Samples.At(r.Sample, out)
	out.ID = uint64(number)
	return err
}

// Tokens is [Samples.Tokens] of a number.
func (d *Dataset) Tokens(epoch, number int64) (int, error) {
	r := d.Ref(epoch, number)
	return d.streams[r.Stream].Samples.Tokens(r.Sample)
}

// Origin is [Samples.Origin] of a number.
func (d *Dataset) Origin(epoch, number int64) (Origin, error) {
	r := d.Ref(epoch, number)
	return d.streams[r.Stream].Samples.Origin(r.Sample)
}
