package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// ReplaceInvalidUTF8 replaces what is not UTF-8 as Python's errors="replace" and Rust's lossy decoding do: one U+FFFD for
// each longest beginning of a character (Unicode 3.9, table 3-8). Ranging over a string would give one for each byte.
func ReplaceInvalidUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 8)
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 {
			size = beginningLength(s)
		}
		b.WriteRune(r)
		s = s[size:]
	}
	return b.String()
}

// beginningLength is the number of bytes of s, which does not start with a character, that could have begun one; at least 1.
func beginningLength(s string) int {
	continuations, low, high := 0, byte(0x80), byte(0xBF)
	switch c := s[0]; {
	case c >= 0xC2 && c <= 0xDF:
		continuations = 1
	case c >= 0xE0 && c <= 0xEF:
		continuations = 2
	case c >= 0xF0 && c <= 0xF4:
		continuations = 3
	}
	switch s[0] { // the second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF
	case 0xE0:
		low = 0xA0
	case 0xED:
		high = 0x9F
	case 0xF0:
		low = 0x90
	case 0xF4:
		high = 0x8F
	}
	n := 1
	for n <= continuations && n < len(s) && s[n] >= low && s[n] <= high {
		low, high = 0x80, 0xBF
		n++
	}
	return n
}
