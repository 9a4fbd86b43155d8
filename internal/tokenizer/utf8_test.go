package tokenizer

import "testing"

// The wanted strings are Python's b.decode("utf-8", "replace").
func TestReplaceInvalidUTF8(t *testing.T) {
	for in, want := range map[string]string{
		"":                          "",
		"a\x00\u00e9\uFFFD":         "a\x00\u00e9\uFFFD",
		"\xff":                      "\uFFFD",
		"\x80\x80":                  "\uFFFD\uFFFD",
		"\xc0\xaf":                  "\uFFFD\uFFFD",
		"\xc3":                      "\uFFFD",
		"\xc3a":                     "\uFFFDa",
		"\xe2\x82":                  "\uFFFD",
		"\xe2\x82x":                 "\uFFFDx",
		"\xe2\x82\xe2\x82\xac":      "\uFFFD\u20ac",
		"\xe0\x80\x80":              "\uFFFD\uFFFD\uFFFD",
		"\xe0\xa0":                  "\uFFFD",
		"\xed\xa0\x80":              "\uFFFD\uFFFD\uFFFD",
		"\xed\x9f":                  "\uFFFD",
		"\xf0\x9f\x98":              "\uFFFD",
		"\xf0\x9f\x98\xf0\x9f":      "\uFFFD\uFFFD",
		"\xf0\x8f\xbf\xbf":          "\uFFFD\uFFFD\uFFFD\uFFFD",
		"\xf4\x90\x80\x80":          "\uFFFD\uFFFD\uFFFD\uFFFD",
		"\xf4\x8f\xbf":              "\uFFFD",
		"\xf5\x80":                  "\uFFFD\uFFFD",
		"x\xf1\x80\x80\xe1\x80\xc2": "x\uFFFD\uFFFD\uFFFD",
	} {
		if got := ReplaceInvalidUTF8(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
