package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// prediction is a line of "ddprun eval --predictions".
type prediction struct {
	Sample int64  `json:"sample"`
	Token  int64  `json:"token"`
	Want   string `json:"want"`
	Got    string `json:"got"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// comparison is what two models said at the same masked words. Tokens that are a part of a word, numbers and punctuation
// don't count.
type comparison struct {
	masked        int // whole words
	before, after int // of them right
	lost          int // right before, wrong after
	gained        []gain
}

// gain is a word that only the second model got right.
type gain struct {
	prediction        // of the second model
	instead    string // what the first one said
}

// compare goes through the predictions of two models on the same text.
func compare(before, after []prediction) (comparison, error) {
	var c comparison
	if len(before) != len(after) {
		return c, fmt.Errorf("%d predictions before and %d after: they are not of the same text", len(before), len(after))
	}
	for i, b := range before {
		a := after[i]
		if a.Sample != b.Sample || a.Token != b.Token || a.Want != b.Want {
			return c, fmt.Errorf("prediction %d is of %q before and of %q after: they are not of the same text", i+1, b.Want, a.Want)
		}
		if !isWord(b) {
			continue
		}
		c.masked++
		was, is := b.Got == b.Want, a.Got == a.Want
		if was {
			c.before++
		}
		if is {
			c.after++
		}
		switch {
		case was && !is:
			c.lost++
		case is && !was:
			c.gained = append(c.gained, gain{a, b.Got})
		}
	}
	return c, nil
}

// isWord reports whether the masked token is a word of letters by itself. A token that continues a word begins with ##.
func isWord(p prediction) bool {
	for _, r := range p.Want {
		if !unicode.IsLetter(r) {
			return false
		}
	}
	return p.Want != "" && !strings.HasPrefix(p.After, "##")
}

// pick chooses at most n gains to show: of different words, the longest, since they say most, in the order of the text.
func pick(gains []gain, n int) []gain {
	seen := map[string]bool{}
	var distinct []int
	for i, g := range gains {
		if !seen[g.Want] {
			seen[g.Want] = true
			distinct = append(distinct, i)
		}
	}
	slices.SortStableFunc(distinct, func(i, j int) int { return len(gains[j].Want) - len(gains[i].Want) })
	distinct = distinct[:min(n, len(distinct))]
	slices.Sort(distinct)
	var chosen []gain
	for _, i := range distinct {
		chosen = append(chosen, gains[i])
	}
	return chosen
}
