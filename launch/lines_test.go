package launch

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSplitterCutsLines(t *testing.T) {
	long := strings.Repeat("x", maxLineBytes)
	for _, c := range []struct {
		name  string
		in    []string
		lines []string
	}{
		{"whole lines", []string{"a\nb\n"}, []string{"a", "b"}},
		{"across writes", []string{"a", "b", "c\nd", "\n"}, []string{"abc", "d"}},
		{"empty lines", []string{"\n\na\n"}, []string{"", "", "a"}},
		{"carriage returns", []string{"a\r", "\nb\rc\r\n"}, []string{"a", "b\rc"}},
		{"no end", []string{"a\nb"}, []string{"a", "b"}},
		{"too long", []string{long + "yy\n"}, []string{long, "yy"}},
		{"just not too long", []string{long + "\n"}, []string{long}},
		{"a rune at the cut", []string{long[1:] + "\u00e9\n"}, []string{long[1:], "\u00e9"}},
	} {
		var got []string
		var s splitter
		emit := func(line []byte) { got = append(got, string(line)) }
		for _, data := range c.in {
			s.write([]byte(data), emit)
		}
		s.flush(emit)
		if strings.Join(got, "|") != strings.Join(c.lines, "|") || len(got) != len(c.lines) {
			t.Errorf("%s: %.60q", c.name, got)
		}
	}
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain":               "plain",
		"tab\there":           "tab\there",
		"\x1b[2J\x07":         `\x1b[2J\x07`,
		"\x7f\r":              `\x7f\x0d`,
		"\u00e9\u4e2d":        "\u00e9\u4e2d",
		"\xff\xc3":            `\xff\xc3`,
		"c1 \u009b":           `c1 \u009b`,
		"bidi \u202e\u2066":   `bidi \u202e\u2066`,
		"replacement \ufffd.": "replacement \ufffd.",
	} {
		if got := string(escape([]byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// FuzzLines: whatever a worker prints and however it arrives, no line is too long, none holds a control character, and
// nothing but line ends is lost.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\r\nb\x1b\xff"), uint8(1))
	f.Add(bytes.Repeat([]byte("\u00e9"), maxLineBytes), uint8(255))
	f.Add([]byte("\n\n\r\r\n"), uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, chunk uint8) {
		var s splitter
		var kept []byte
		emit := func(line []byte) {
			if len(line) > maxLineBytes {
				t.Fatalf("a line of %d bytes", len(line))
			}
			kept = append(kept, line...)
			escaped := escape(line)
			if !utf8.Valid(escaped) || bytes.ContainsFunc(escaped, steers) {
				t.Fatalf("%q is not safe to show", escaped)
			}
		}
		size := int(chunk) + 1
		for rest := data; len(rest) > 0; {
			n := min(size, len(rest))
			s.write(rest[:n], emit)
			rest = rest[n:]
		}
		s.flush(emit)
		strip := func(b []byte) []byte {
			return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\n"), nil), []byte("\r"), nil)
		}
		if !bytes.Equal(strip(kept), strip(data)) {
			t.Fatalf("%q became %q", data, kept)
		}
	})
}
