package tokenizer

import (
	"slices"
	"strings"
	"testing"
)

func TestTruncatingStrategies(t *testing.T) {
	tok := committed(t).tokenizer(t, "bert")
	long, short := strings.Repeat("light ", 20), "the rays"
	light := encodeOne(t, tok, "light", Options{NoSpecialTokens: true}).IDs
	rays := encodeOne(t, tok, short, Options{NoSpecialTokens: true}).IDs
	full := encodeOne(t, tok, "", Options{}).IDs // [CLS] [SEP]
	for _, c := range []struct {
		strategy Strategy
		texts    []string
	}{
		{OnlyFirst, []string{long, short}},
		{OnlySecond, []string{short, long}},
	} {
		room := 10 - 3 - len(rays)
		cut, err := tok.Truncating(Truncation{MaxLength: 10, Strategy: c.strategy})
		if err != nil {
			t.Fatal(err)
		}
		defer cut.Close()
		batch, err := cut.EncodeBatch(c.texts, Options{Pairs: true})
		if err != nil {
			t.Fatal(err)
		}
		lights := slices.Repeat(light, 20)[:room]
		want := slices.Concat(full[:1], lights, full[1:], rays, full[1:])
		if c.strategy == OnlySecond {
			want = slices.Concat(full[:1], rays, full[1:], lights, full[1:])
		}
		if !slices.Equal(batch.IDs, want) {
			t.Errorf("strategy %d: ids %d, want %d", c.strategy, batch.IDs, want)
		}
		swapped := []string{c.texts[1], c.texts[0]}
		if _, err := cut.EncodeBatch(swapped, Options{Pairs: true}); err == nil || !strings.Contains(err.Error(), "too short") {
			t.Errorf("strategy %d, the other text is too long: %v", c.strategy, err)
		}
	}
}

func TestTruncatingRefuses(t *testing.T) {
	tok := committed(t).tokenizer(t, "bert")
	for _, c := range []struct {
		to   Truncation
		want string
	}{
		{Truncation{}, "at least 1"},
		{Truncation{MaxLength: -3}, "at least 1"},
		{Truncation{MaxLength: 1}, "no room for the 2 special tokens"},
		{Truncation{MaxLength: 8, Stride: -1}, "negative"},
		{Truncation{MaxLength: 8, Stride: 6}, "stride of 6"},
		{Truncation{MaxLength: 8, Strategy: 3}, "strategy 3"},
		{Truncation{MaxLength: 8, Direction: -1}, "direction -1"},
	} {
		if _, err := tok.Truncating(c.to); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.to, err, c.want)
		}
	}
	cut, err := tok.Truncating(Truncation{MaxLength: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer cut.Close()
	if _, err := cut.EncodeBatch([]string{"a", "b"}, Options{Pairs: true}); err == nil || !strings.Contains(err.Error(), "no room for the 3") {
		t.Errorf("a pair in 2 tokens: %v", err)
	}
}
