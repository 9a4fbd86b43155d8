package shard

import "unicode/utf8"

// EncodingErrors says what happens to bytes that are not UTF-8.
type EncodingErrors string

const (
	// EncodingStrict refuses them, with the file, byte and line.
	EncodingStrict EncodingErrors = "strict"
	// EncodingReplace puts U+FFFD in their place, as Python's
	// bytes.decode(errors="replace") does.
	EncodingReplace EncodingErrors = "replace"
)

const replacement = "\uFFFD"

// firstInvalid returns the index of the first byte of b that starts no valid UTF-8
// sequence, or -1.
func firstInvalid(b []byte) int {
	for i := 0; i < len(b); {
		if b[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// appendReplaced appends src to dst with one U+FFFD for each maximal subpart of an
// ill-formed sequence (Unicode 16.0, 3.9, "U+FFFD Substitution of Maximal
// Subparts"), and returns how many it put in. Go's own conversions replace each
// byte, which gives other tokens than Python does.
func appendReplaced(dst, src []byte) ([]byte, int64) {
	var replaced int64
	for len(src) > 0 {
		bad := firstInvalid(src)
		if bad < 0 {
			return append(dst, src...), replaced
		}
		dst = append(dst, src[:bad]...)
		dst = append(dst, replacement...)
		replaced++
		src = src[bad+illFormedLen(src[bad:]):]
	}
	return dst, replaced
}

// illFormedLen is the length of the maximal subpart at the start of b, which starts
// no well-formed sequence: the longest prefix of one, or else one byte (Unicode
// 16.0, table 3-7).
func illFormedLen(b []byte) int {
	need, low, high := 0, byte(0x80), byte(0xBF)
	switch lead := b[0]; {
	case lead >= 0xC2 && lead <= 0xDF:
		need = 1
	case lead == 0xE0:
		need, low = 2, 0xA0
	case lead == 0xED:
		need, high = 2, 0x9F
	case lead >= 0xE1 && lead <= 0xEF:
		need = 2
	case lead == 0xF0:
		need, low = 3, 0x90
	case lead == 0xF4:
		need, high = 3, 0x8F
	case lead >= 0xF1 && lead <= 0xF3:
		need = 3
	}
	n := 1
	for n <= need && n < len(b) && b[n] >= low && b[n] <= high {
		n++
		low, high = 0x80, 0xBF
	}
	return n
}
