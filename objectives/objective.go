package objectives

// Objective makes training samples of text: what goes into the model and what it shall say. It is safe for concurrent use; all its
// randomness comes from the key.
type Objective interface {
	// Terms names the parts of the loss in the order in which the model returns them: [mlm], [nsp], [mlm nsp], [reconstruction], ...
	Terms() []string
	// Pairs tells whether a sample is a pair of sentences (Sample.Next).
	Pairs() bool
	// TextTokens returns the longest text, in tokens, of a sample that shall have at most maxTokens with what Append puts around it. Below 1 there
	// is no room for any.
	TextTokens(maxTokens int) int
	// SampleTokens returns the most tokens, on both sides and with what Append puts around it, of a sample of so many text tokens (of a pair, both
	// sentences). Words that are encoded again may become more.
	SampleTokens(text int) int
	// Keep tells whether a sample, or a sentence of a pair, has anything to learn from; others cannot be appended.
	Keep(tokens []uint32) bool
	// KeepDigest names the rule of Keep: another rule, another name.
	KeepDigest() string
	// Draw tells whether the second sentence of the key's sample shall be a random one, and the bits that choose it. It is false where
	// an objective wants none.
	Draw(key Key) (negative bool, choice uint64)
	// Append appends the sample to the batch with what the key's draws make of it. Next is what follows in the text or, where Draw said
	// so, the random sentence. On an error the batch is as it was.
	Append(b *Batch, s Sample, key Key) error
}
