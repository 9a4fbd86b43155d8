package tokenizer

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
)

func TestDigest(t *testing.T) {
	digest := func(json string) string {
		t.Helper()
		sum, err := Digest([]byte(json))
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	sum := sha256.Sum256([]byte(`{"model":{"a":-1.50,"b":"x"},"version":"1.0"}`))
	want := hex.EncodeToString(sum[:])
	for _, same := range []string{
		`{"version":"1.0","model":{"a":-1.50,"b":"x"}}`,
		` { "model": {"b" : "x", "a":-1.50}, "padding": null, "truncation": {"max_length": 128}, "version":"1.0" } `,
	} {
		if got := digest(same); got != want {
			t.Errorf("%s: %s, want %s", same, got, want)
		}
	}
	if digest(`{"version":"1.0","model":{"a":-1.51,"b":"x"}}`) == want {
		t.Error("another score has the same digest")
	}
	if _, err := Digest([]byte(`{"version":`)); err == nil || !strings.Contains(err.Error(), "tokenizer.json") {
		t.Errorf("a broken file: %v", err)
	}
}
