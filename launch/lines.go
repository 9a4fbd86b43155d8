package launch

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLineBytes bounds a line on the screen; a longer one is shown in pieces.
const maxLineBytes = 16 << 10

// splitter cuts a stream of bytes into lines of at most maxLineBytes.
type splitter struct {
	rest []byte // begun, not ended
}

// write emits every line that data ends. The line is valid during the call.
func (s *splitter) write(data []byte, emit func(line []byte)) {
	for len(data) > 0 {
		line, rest, ended := bytes.Cut(data, []byte{'\n'})
		data = rest
		s.rest = append(s.rest, line...)
		for len(s.rest) > maxLineBytes {
			cut := wholeRunes(s.rest[:maxLineBytes])
			emit(s.rest[:cut])
			s.rest = append(s.rest[:0], s.rest[cut:]...)
		}
		if ended {
			emit(bytes.TrimSuffix(s.rest, []byte{'\r'}))
			s.rest = s.rest[:0]
		}
	}
}

// flush emits the line that was begun, if any.
func (s *splitter) flush(emit func(line []byte)) {
	if s.partial() {
		emit(s.rest)
		s.rest = s.rest[:0]
	}
}

// partial says whether a line was begun and not ended.
func (s *splitter) partial() bool { return len(s.rest) > 0 }

// wholeRunes returns the length of text without a rune that its end cuts in two.
func wholeRunes(text []byte) int {
	for back := 1; back < utf8.UTFMax && back < len(text); back++ {
		if start := len(text) - back; utf8.RuneStart(text[start]) {
			if !utf8.FullRune(text[start:]) {
				return start
			}
			break
		}
	}
	return len(text)
}

// escape returns line with every control character but tab, every character that reverses the order of text, and every
// byte that is not UTF-8 written as an escape sequence of Go, so that what a worker prints cannot steer the terminal. The
// result may be line itself.
func escape(line []byte) []byte {
	if printable(line) {
		return line
	}
	var out []byte
	for len(line) > 0 {
		r, size := utf8.DecodeRune(line)
		switch {
		case r == utf8.RuneError && size == 1, r < utf8.RuneSelf && steers(r):
			out = fmt.Appendf(out, `\x%02x`, line[0])
		case steers(r):
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, line[:size]...)
		}
		line = line[size:]
	}
	return out
}

// escapeText is escape for a text of several lines, which it keeps.
func escapeText(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = string(escape([]byte(line)))
	}
	return strings.Join(lines, "\n")
}

// printable says whether escape would leave line as it is.
func printable(line []byte) bool {
	if !utf8.Valid(line) {
		return false
	}
	return bytes.IndexFunc(line, steers) < 0
}

// steers says whether a terminal may take r for anything but a character to show.
func steers(r rune) bool {
	return r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r))
}
