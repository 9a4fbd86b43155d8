package shard

import (
	"fmt"
	"runtime/debug"
)

// group is how windows go on from one document to the next.
type group struct {
	separator uint32
	documents *DocumentSet // nil: all
	before    []int64      // documents of the corpus before each shard; empty without a set
}

func newGroup(c *Corpus, cfg *SampleConfig) *group {
	if !cfg.Group {
		return nil
	}
	g := &group{separator: cfg.Separator, documents: cfg.Documents}
	if cfg.Documents != nil {
		before := int64(0)
		for _, entry := range c.index.Shards {
			g.before = append(g.before, before)
			before += entry.Documents
		}
	}
	return g
}

// counts tells whether document d of a shard does.
func (g *group) counts(file *shardFile, d int64) bool {
	return g.documents == nil || g.documents.Has(g.before[file.number]+d)
}

// cutGroups cuts windows that go on over the documents of a shard. A separator stands between two documents, never at a window's edge: where after a document there is no
// room for it and a token, the window ends. An entry's length counts separators.
func (k *sampleCutter) cutGroups(file *shardFile) error {
	longest := int64(k.cfg.MaxTokens)
	start, length := int64(0), int64(0)
	for d := range int64(file.h.documents) {
		if !k.counts(d) {
			continue
		}
		from, end := file.document(d)
		switch {
		case length == 0:
		case longest-length < 2:
			if err := k.addGroup(file, start, length); err != nil {
				return err
			}
			length = 0
		default:
			length++
		}
		for from < end {
			if length == 0 {
				start = from
			}
			n := min(longest-length, end-from)
			from, length = from+n, length+n
			if length == longest {
				if err := k.addGroup(file, start, length); err != nil {
					return err
				}
				length = 0
			}
		}
	}
	if length == 0 {
		return nil
	}
	return k.addGroup(file, start, length)
}

// addGroup writes the entry of a window, if it is to be kept.
func (k *sampleCutter) addGroup(file *shardFile, start, length int64) (err error) {
	keep := true
	if k.cfg.Keep != nil {
		if k.tokens, _, err = k.group.fill(file, start, length, k.tokens, nil); err != nil {
			return err
		}
		keep = k.cfg.Keep(k.tokens)
	}
	return k.write(start, length, keep)
}

// fill reads the window of length tokens from start on into the slices, which it overwrites and returns; words may be nil.
func (g *group) fill(file *shardFile, start, length int64, tokens []uint32, words []bool) (_ []uint32, _ []bool, err error) {
	defer faultError(file.path, debug.SetPanicOnFault(true), &err)
	tokens, words = tokens[:0], words[:0]
	d, documents := file.documentAt(start), int64(file.h.documents)
	for from := start; ; {
		_, end := file.document(d)
		end = min(end, from+length)
		first := len(words)
		if tokens, err = file.appendTokens(tokens, from, end); err != nil {
			return tokens, words, err
		}
		words = file.appendWords(words, from, end)
		words[first] = true
		if length -= end - from; length == 0 {
			return tokens, words, nil
		}
		tokens, words = append(tokens, g.separator), append(words, true)
		length--
		for d++; d < documents && !g.counts(file, d); d++ {
		}
		if d == documents || length == 0 {
			return tokens, words, fmt.Errorf("shard: a window from token %d of %s on does not end in it; %s", start, file.path, hintDamaged)
		}
		from, _ = file.document(d)
	}
}
