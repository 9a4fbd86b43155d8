package objectives

// Batch is a micro-batch without padding: the samples' tokens one after another. With N tokens, S samples and M labelled
// tokens:
//
//	IDs, Positions, TypeIDs  [N]    input ids, position ids, token types
//	Offsets                  [S+1]  sample i is tokens Offsets[i] to Offsets[i+1]; the first is 0
//	Labelled, Labels         [M]    indices of labelled tokens in [0, N), ascending, and the ids to predict there
//	SampleIDs                [S]    Sample.ID of each
//
// An objective on pairs adds, with P labelled samples,
//
//	PairSamples, PairLabels  [P]    indices of samples with a class, ascending, and the classes
//
// and a sequence-to-sequence one, with T tokens on the decoder's side,
//
//	DecoderIDs, Targets      [T]    decoder input ids, and the ids to predict there
//	DecoderOffsets           [S+1]  sample i is decoder tokens DecoderOffsets[i] to DecoderOffsets[i+1]; the first is 0
//
// What an objective does not use stays empty.
// The zero value is an empty batch. Readers borrow the slices until the next Reset. A batch belongs to one goroutine at a time.
type Batch struct {
	IDs, Positions, TypeIDs []int64
	Offsets                 []int32
	Labelled, Labels        []int64
	SampleIDs               []uint64

	PairSamples, PairLabels []int64

	DecoderIDs, Targets []int64
	DecoderOffsets      []int32

	// Scratch of the objectives; it lies here so that they need no lock and make no garbage.
	draws       generator
	words       []word
	moved       []uint32
	spanLengths []int
}

// Reset empties the batch and keeps its buffers.
func (b *Batch) Reset() {
	b.IDs, b.Positions, b.TypeIDs = b.IDs[:0], b.Positions[:0], b.TypeIDs[:0]
	b.Offsets = append(b.Offsets[:0], 0)
	b.Labelled, b.Labels = b.Labelled[:0], b.Labels[:0]
	b.SampleIDs = b.SampleIDs[:0]
	b.PairSamples, b.PairLabels = b.PairSamples[:0], b.PairLabels[:0]
	b.DecoderIDs, b.Targets, b.DecoderOffsets = b.DecoderIDs[:0], b.Targets[:0], b.DecoderOffsets[:0]
}

// Tokens returns N + T, the number of tokens with the special ones, on both sides.
func (b *Batch) Tokens() int { return len(b.IDs) + len(b.DecoderIDs) }

// Samples returns S, the number of samples.
func (b *Batch) Samples() int { return len(b.SampleIDs) }

// appendToken appends one token.
func (b *Batch) appendToken(id uint32, position, typeID int) {
	b.IDs = append(b.IDs, int64(id))
	b.Positions = append(b.Positions, int64(position))
	b.TypeIDs = append(b.TypeIDs, int64(typeID))
}

// closeDecoder makes a sample's decoder side of the targets appended since the last one: its input is start and all targets but the last.
func (b *Batch) closeDecoder(start int64) {
	if len(b.DecoderOffsets) == 0 {
		b.DecoderOffsets = append(b.DecoderOffsets, 0)
	}
	b.DecoderIDs = append(append(b.DecoderIDs, start), b.Targets[len(b.DecoderIDs):len(b.Targets)-1]...)
	b.DecoderOffsets = append(b.DecoderOffsets, int32(len(b.Targets)))
}

// closeSample makes a sample of the tokens appended since the last one.
func (b *Batch) closeSample(id uint64) {
	if len(b.Offsets) == 0 {
		b.Offsets = append(b.Offsets, 0)
	}
	b.Offsets = append(b.Offsets, int32(len(b.IDs)))
	b.SampleIDs = append(b.SampleIDs, id)
}
