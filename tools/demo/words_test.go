package main

import (
	"strings"
	"testing"
)

// said is a model's answer for the masked word want of token number n.
func said(n int64, want, got, after string) prediction {
	return prediction{Token: n, Want: want, Got: got, Before: "the", After: after}
}

func TestCompare(t *testing.T) {
	before := []prediction{
		said(1, "prism", "glass", "refracts"), // gained
		said(2, "light", "light", "falls"),    // kept
		said(3, "paper", "paper", "is"),       // lost
		said(4, "##ing", "##ed", "rays"),      // the end of a word
		said(5, "refr", "the", "##acted ray"), // the beginning of one
		said(6, ",", "and", "the"),
		said(7, "1704", "the", "."),
	}
	after := []prediction{
		said(1, "prism", "prism", "refracts"), said(2, "light", "light", "falls"), said(3, "paper", "glass", "is"),
		said(4, "##ing", "##ing", "rays"), said(5, "refr", "refr", "##acted ray"), said(6, ",", ",", "the"), said(7, "1704", "1704", "."),
	}
	c, err := compare(before, after)
	if err != nil {
		t.Fatal(err)
	}
	if c.masked != 3 || c.before != 2 || c.after != 2 || c.lost != 1 || len(c.gained) != 1 {
		t.Fatalf("got %+v", c)
	}
	if g := c.gained[0]; g.Want != "prism" || g.instead != "glass" {
		t.Errorf("got %+v", g)
	}
}

func TestCompareRefusesOtherTexts(t *testing.T) {
	one := []prediction{said(1, "prism", "glass", "")}
	for name, other := range map[string][]prediction{
		"fewer":         nil,
		"another word":  {said(1, "light", "glass", "")},
		"another place": {said(2, "prism", "glass", "")},
	} {
		if _, err := compare(one, other); err == nil || !strings.Contains(err.Error(), "not of the same text") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPick(t *testing.T) {
	var gains []gain
	for _, word := range []string{"ray", "refraction", "ray", "light", "refraction", "refrangible"} {
		gains = append(gains, gain{prediction: prediction{Want: word}})
	}
	for n, want := range map[int]string{0: "", 2: "refraction refrangible", 3: "refraction light refrangible", 9: "ray refraction light refrangible"} {
		var got []string
		for _, g := range pick(gains, n) {
			got = append(got, g.Want)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("pick of %d: got %q, want %q", n, got, want)
		}
	}
}
