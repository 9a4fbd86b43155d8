package hf

import (
	"encoding/json"
	"testing"
)

func TestParseAddedToken(t *testing.T) {
	for _, c := range []struct {
		text    string
		special bool
		want    addedToken
	}{
		{`"x"`, true, addedToken{Content: "x", Special: true}},
		{`"x"`, false, addedToken{Content: "x", Normalized: true}},
		{`{"content":"x","lstrip":true}`, true, addedToken{Content: "x", LStrip: true, Special: true}},
		{`{"content":"x","normalized":true}`, true, addedToken{Content: "x", Normalized: true, Special: true}},
		{`{"content":"x","special":true}`, false, addedToken{Content: "x", Special: true}},
		{`{"content":"x","single_word":true,"rstrip":true}`, false, addedToken{Content: "x", SingleWord: true, RStrip: true, Normalized: true}},
	} {
		got, err := parseAddedToken(json.RawMessage(c.text), c.special)
		if err != nil || got == nil || *got != c.want {
			t.Errorf("%s is %+v (%v), want %+v", c.text, got, err, c.want)
		}
	}
	if got, err := parseAddedToken(json.RawMessage("null"), true); got != nil || err != nil {
		t.Errorf("null is %+v (%v)", got, err)
	}
	for _, text := range []string{`1`, `{}`, `{"content":null}`, `{"content":1}`, `["x"]`} {
		_, err := parseAddedToken(json.RawMessage(text), true)
		wantError(t, err, "must be a string")
	}
}

// Tokens that the vocabulary has keep their id, others get the next free one.
func TestTokenIDs(t *testing.T) {
	ids := &tokenIDs{vocab: map[string]int{"a": 0, "b": 1}, added: map[string]addedToken{}, next: 2}
	for _, content := range []string{"new", "b", "", "newer", "new"} {
		ids.add(addedToken{Content: content})
	}
	got := ids.sorted()
	if len(got) != 3 || got[0].Content != "b" || got[1].Content != "new" || got[1].ID != 2 || got[2].ID != 3 {
		t.Errorf("got %+v", got)
	}
	if id, ok := ids.of("a"); id != 0 || !ok {
		t.Error("a is not found in the vocabulary")
	}
	if _, ok := ids.of("absent"); ok {
		t.Error("an absent token has an id")
	}
	if empty := (&tokenIDs{}).sorted(); empty == nil {
		t.Error("no added tokens must be an empty list, not null")
	}
}
