package shard

import (
	"fmt"
	"strings"
	"sync"

	punkt "github.com/neurosnap/sentences"
	"github.com/neurosnap/sentences/english"
)

// SegmentDigest names what Segmenter returns, for PrepareConfig.
const SegmentDigest = "punkt english, github.com/neurosnap/sentences 1.1.2, paragraphs apart"

// Segmenter returns a function that cuts a text into sentences, for SentenceAuto: Punkt (Kiss and Strunk, "Unsupervised Multilingual
// Sentence Boundary Detection", 2006) with its English abbreviations. A blank line ends a sentence, a line's end does not. Several goroutines
// may call it.
func Segmenter() (func(text string) []string, error) {
	cutter, err := newPunkt()
	if err != nil {
		return nil, fmt.Errorf("shard: the sentence segmenter: %w", err)
	}
	return func(text string) []string { return segment(cutter, text) }, nil
}

// newPunkt reads the abbreviations once a process.
var newPunkt = sync.OnceValues(func() (*punkt.DefaultSentenceTokenizer, error) { return english.NewSentenceTokenizer(nil) })

func segment(cutter *punkt.DefaultSentenceTokenizer, text string) []string {
	var all []string
	var paragraph []string
	end := func() {
		if len(paragraph) == 0 {
			return
		}
		for _, s := range cutter.Tokenize(strings.Join(paragraph, " ")) {
			if s := strings.TrimSpace(s.Text); s != "" {
				all = append(all, s)
			}
		}
		paragraph = paragraph[:0]
	}
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			paragraph = append(paragraph, line)
			continue
		}
		end()
	}
	end()
	return all
}
