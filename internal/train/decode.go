package train

import (
	"slices"

	"github.com/ddprun/ddprun/internal/model"
	"github.com/ddprun/ddprun/internal/torch"
	"github.com/ddprun/ddprun/objectives"
	"github.com/ddprun/ddprun/shard"
)

// decoded counts what greedy decoding finds of the targets: tokens that stand where they shall, the end token included, and whole samples.
type decoded struct{ tokens, rightTokens, samples, rightSamples float64 }

func (d *decoded) add(x decoded) {
	d.tokens += x.tokens
	d.rightTokens += x.rightTokens
	d.samples += x.samples
	d.rightSamples += x.rightSamples
}

// tokenAccuracy and exactMatch are shares; they are of something only where samples were decoded.
func (d *decoded) tokenAccuracy() float64 { return d.rightTokens / d.tokens }
func (d *decoded) exactMatch() float64    { return d.rightSamples / d.samples }

// decodes tells whether the samples of an evaluation's micro-batch are decoded: those of every k-th, so that there are as many as
// eval_decode_samples says, rounded up to whole micro-batches.
func (r *rank) decodes(order *shard.EvalOrder, microBatch int64) bool {
	c := r.job.Config
	if c.EvalDecodeSamples == 0 || !c.SequenceToSequence() {
		return false
	}
	size := int64(c.PerDeviceEvalBatchSize)
	wanted := (int64(c.EvalDecodeSamples) + size - 1) / size
	every := (order.Len() + wanted - 1) / wanted
	return microBatch%every == 0
}

// decode writes the targets of a micro-batch greedily and counts what is right. Each sample's text is given to written, if that is not nil.
func (r *rank) decode(b *objectives.Batch, written func(sample int, want, got []int64) error) (counts decoded, err error) {
	target := func(i int) []int64 { return b.Targets[b.DecoderOffsets[i]:b.DecoderOffsets[i+1]] }
	longest := 0
	for i := range b.Samples() {
		longest = max(longest, len(target(i)))
	}
	var out [][]int64
	torch.NoGrad(func() { out, err = r.model.(model.Decoder).GreedyDecode(b, longest) })
	if err != nil {
		return decoded{}, err
	}
	for i, got := range out {
		want := target(i)
		x := decoded{tokens: float64(len(want)), samples: 1}
		for j := range min(len(want), len(got)) {
			if got[j] == want[j] {
				x.rightTokens++
			}
		}
		if slices.Equal(got, want) {
			x.rightSamples = 1
		}
		counts.add(x)
		if written == nil {
			continue
		}
		if err := written(i, want, got); err != nil {
			return decoded{}, err
		}
	}
	return counts, nil
}
