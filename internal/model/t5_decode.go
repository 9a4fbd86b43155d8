package model

import (
	"slices"

	"github.com/ddprun/ddprun/internal/torch"
	"github.com/ddprun/ddprun/objectives"
)

// Decoder is a Model that writes text: a sequence-to-sequence one.
type Decoder interface {
	Model
	// DecoderStart is the id that a sample's decoder input begins with.
	DecoderStart() int64
	// GreedyDecode returns for each sample of the batch the likeliest token after those before it, and so on, up to the model's end
	// token, which is the last, or maxTokens. It looks at the batch's encoder side alone. The encoder runs once, and the decoder over
	// all tokens so far for each new one, which is meant for the short outputs of an evaluation.
	GreedyDecode(b *objectives.Batch, maxTokens int) ([][]int64, error)
}

func (m *t5) GreedyDecode(b *objectives.Batch, maxTokens int) ([][]int64, error) {
	out := make([][]int64, len(b.Offsets)-1)
	err := torch.Do(func(s *torch.Scope) error {
		drop := m.dropouts(Pass{})
		read := s.Offsets(b.Offsets)
		memoryNH := m.run(s, m.encoder(), b.IDs, read, nil, drop)
		keys, values := make([]torch.Tensor, m.c.decoderLayers), make([]torch.Tensor, m.c.decoderLayers)
		for i := range keys {
			keys[i], values[i] = m.memoryKeys(s, memoryNH, i)
		}
		memory := &t5Memory{offsets: read, keys: func(_ *torch.Scope, _ torch.Tensor, i int) (k, v torch.Tensor) { return keys[i], values[i] }}
		for n := 0; n < maxTokens && slices.ContainsFunc(out, m.unfinished); n++ {
			if err := m.decodeNext(out, memory); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

func (m *t5) unfinished(said []int64) bool {
	return len(said) == 0 || m.c.end < 0 || said[len(said)-1] != int64(m.c.end)
}

// decodeNext appends a token to each sample that has not come to its end. The others have no queries.
func (m *t5) decodeNext(out [][]int64, memory *t5Memory) error {
	var ids, last []int64
	offsets := []int32{0}
	for _, said := range out {
		if m.unfinished(said) {
			ids = append(append(ids, m.DecoderStart()), said...)
			last = append(last, int64(len(ids)-1))
		}
		offsets = append(offsets, int32(len(ids)))
	}
	return torch.Do(func(s *torch.Scope) error {
		x := s.IndexSelect(m.run(s, m.decoder(), ids, s.Offsets(offsets), memory, m.dropouts(Pass{})), s.Input(last))
		next := s.ToHost(s.ArgMax(s.Linear(m.scale(s, x), m.head(), torch.Tensor{}))).Int64s()
		for i, said := range out {
			if m.unfinished(said) {
				out[i], next = append(said, next[0]), next[1:]
			}
		}
		return nil
	})
}
