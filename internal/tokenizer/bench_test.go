package tokenizer

import "testing"

// BenchmarkEncode encodes lines of the shared data on one thread, all in one call.
func BenchmarkEncode(b *testing.B) {
	g := shared(b)
	var texts []string
	size := 0
	for _, input := range g.inputs(b, "opticks") {
		texts = append(texts, input.T)
		size += len(input.T)
	}
	for _, family := range g.Families {
		tok := g.tokenizer(b, family)
		for name, options := range map[string]Options{"ids": {}, "wordstarts": {NoSpecialTokens: true, WordStarts: true}, "all": everything} {
			b.Run(family+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(size))
				for b.Loop() {
					if _, err := tok.EncodeBatch(texts, options); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
