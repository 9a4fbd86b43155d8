package shard

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth is how deep values may lie in each other, as in encoding/json.
const maxJSONDepth = 10000

// jsonScan looks for one string in a JSON text, as Python's json.loads reads it: a name that comes twice has its last value, NaN and
// Infinity are numbers. It builds nothing but that string, and checks the whole text. (encoding/json takes names in any case, and
// changes lone surrogates without a word.)
type jsonScan struct {
	in    []byte
	at    int
	depth int
	name  []byte // the last name that had escapes, unquoted
}

// jsonValue is what was found under a path of names.
type jsonValue struct {
	kind    byte   // '"' string, '{', '[', '0' number, 't' true or false, 'n' null; 0: nothing has that path
	raw     []byte // of a string, between its quotes
	escaped bool   // raw has escapes
}

type jsonError struct {
	at   int
	what string
}

func (e *jsonError) Error() string { return e.what }

// find returns the value under a path of names, the literal name first: a field called "a.b" comes before b in a.
func (s *jsonScan) find(in []byte, literal string, path []string) (jsonValue, error) {
	*s = jsonScan{in: in, name: s.name}
	var whole, nested jsonValue
	s.space()
	if s.peek() != '{' {
		if err := s.value(); err != nil {
			return jsonValue{}, err
		}
		return jsonValue{}, &jsonError{0, "it is no object"}
	}
	err := s.object(func(name []byte) error {
		switch {
		case string(name) == literal:
			return s.take(&whole)
		case len(path) > 1 && string(name) == path[0]:
			return s.within(path[1:], &nested)
		}
		return s.value()
	})
	if err != nil {
		return jsonValue{}, err
	}
	if s.space(); s.at < len(in) {
		return jsonValue{}, s.unexpected("behind the object")
	}
	if whole.kind != 0 {
		return whole, nil
	}
	return nested, nil
}

// within finds path in the value that comes next.
func (s *jsonScan) within(path []string, found *jsonValue) error {
	*found = jsonValue{}
	if s.peek() != '{' {
		return s.value()
	}
	return s.object(func(name []byte) error {
		switch {
		case string(name) != path[0]:
			return s.value()
		case len(path) == 1:
			return s.take(found)
		}
		return s.within(path[1:], found)
	})
}

// take reads the next value into found.
func (s *jsonScan) take(found *jsonValue) error {
	*found = jsonValue{kind: s.peek()}
	start := s.at + 1
	switch c := found.kind; {
	case c == '"':
		escaped, err := s.str()
		*found = jsonValue{kind: '"', raw: s.in[start:max(start, s.at-1)], escaped: escaped}
		return err
	case c == 'f':
		found.kind = 't'
	case c == '-' || c == 'N' || c == 'I' || c >= '0' && c <= '9':
		found.kind = '0'
	}
	return s.value()
}

// value passes over any value.
func (s *jsonScan) value() error {
	switch c := s.peek(); {
	case c == '"':
		_, err := s.str()
		return err
	case c == '{':
		return s.object(func([]byte) error { return s.value() })
	case c == '[':
		return s.array()
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	}
	for _, word := range []string{"true", "false", "null", "NaN", "Infinity"} {
		if bytes.HasPrefix(s.in[s.at:], []byte(word)) {
			s.at += len(word)
			return nil
		}
	}
	return s.unexpected("where a value should be")
}

// object calls member with each name, in front of the value, which it reads.
func (s *jsonScan) object(member func(name []byte) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	if s.space(); s.peek() == '}' {
		return s.leave()
	}
	for {
		if s.peek() != '"' {
			return s.unexpected("where a name should be")
		}
		start := s.at + 1
		escaped, err := s.str()
		if err != nil {
			return err
		}
		name := s.in[start : s.at-1]
		if escaped {
			s.name, _ = appendUnquoted(s.name[:0], name)
			name = s.name
		}
		if s.space(); s.peek() != ':' {
			return s.unexpected("where a colon should be")
		}
		s.at++
		s.space()
		if err := member(name); err != nil {
			return err
		}
		switch s.space(); s.peek() {
		case ',':
			s.at++
			s.space()
		case '}':
			return s.leave()
		default:
			return s.unexpected("where a comma or a brace should be")
		}
	}
}

func (s *jsonScan) array() error {
	if err := s.enter(); err != nil {
		return err
	}
	if s.space(); s.peek() == ']' {
		return s.leave()
	}
	for {
		if err := s.value(); err != nil {
			return err
		}
		switch s.space(); s.peek() {
		case ',':
			s.at++
			s.space()
		case ']':
			return s.leave()
		default:
			return s.unexpected("where a comma or a bracket should be")
		}
	}
}

func (s *jsonScan) enter() error {
	s.at++
	if s.depth++; s.depth > maxJSONDepth {
		return &jsonError{s.at - 1, fmt.Sprintf("values lie more than %d deep", maxJSONDepth)}
	}
	return nil
}

func (s *jsonScan) leave() error {
	s.at++
	s.depth--
	return nil
}

// str passes over a string and says whether it has escapes.
func (s *jsonScan) str() (escaped bool, err error) {
	for i := s.at + 1; i < len(s.in); i++ {
		switch c := s.in[i]; {
		case c == '"':
			s.at = i + 1
			return escaped, nil
		case c == '\\':
			escaped = true
			if i++; i == len(s.in) {
				break
			}
			if s.in[i] == 'u' {
				if _, ok := hex4(s.in[i+1:]); !ok {
					return false, &jsonError{i - 1, "\\u without four hexadecimal digits"}
				}
				i += 4
			} else if strings.IndexByte(`"\/bfnrt`, s.in[i]) < 0 {
				return false, &jsonError{i - 1, "an escape that JSON does not have"}
			}
		case c < 0x20:
			return false, &jsonError{i, fmt.Sprintf("a control character (0x%02x) in a string", c)}
		}
	}
	s.at = len(s.in)
	return false, s.unexpected("")
}

func (s *jsonScan) number() error {
	if s.peek() == '-' {
		s.at++
		if bytes.HasPrefix(s.in[s.at:], []byte("Infinity")) {
			s.at += len("Infinity")
			return nil
		}
	}
	if s.peek() == '0' {
		s.at++
	} else if !s.digits() {
		return s.unexpected("where a digit should be")
	}
	if s.peek() == '.' {
		if s.at++; !s.digits() {
			return s.unexpected("where a digit should be")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.at++
		if c := s.peek(); c == '+' || c == '-' {
			s.at++
		}
		if !s.digits() {
			return s.unexpected("where a digit should be")
		}
	}
	return nil
}

func (s *jsonScan) digits() bool {
	start := s.at
	for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
		s.at++
	}
	return s.at > start
}

// peek returns the next byte, or 0 at the end.
func (s *jsonScan) peek() byte {
	if s.at < len(s.in) {
		return s.in[s.at]
	}
	return 0
}

func (s *jsonScan) space() {
	for s.at < len(s.in) && (s.in[s.at] == ' ' || s.in[s.at] == '\t' || s.in[s.at] == '\r' || s.in[s.at] == '\n') {
		s.at++
	}
}

func (s *jsonScan) unexpected(where string) error {
	if s.at >= len(s.in) {
		return &jsonError{s.at, "the line ends in the middle of a value"}
	}
	r, _ := utf8.DecodeRune(s.in[s.at:])
	return &jsonError{s.at, strings.TrimSpace(strconv.QuoteRune(r) + " " + where)}
}

// names lists the first names of an object that find has read, for a message.
func (s *jsonScan) names(in []byte) []string {
	*s = jsonScan{in: in, name: s.name}
	var names []string
	s.space()
	_ = s.object(func(name []byte) error {
		if text := string(name); !slices.Contains(names, text) && len(names) < maxNamed {
			names = append(names, text)
		}
		return s.value()
	})
	return names
}

// appendUnquoted appends the string whose JSON form, between its quotes, is raw and has been checked, and returns how many halves of
// surrogate pairs it holds alone: no UTF-8 is theirs, so each becomes U+FFFD.
func appendUnquoted(dst, raw []byte) ([]byte, int64) {
	var lone int64
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return append(dst, raw...), lone
		}
		dst = append(dst, raw[:i]...)
		c := raw[i+1]
		raw = raw[i+2:]
		if at := strings.IndexByte("bfnrt", c); at >= 0 {
			c = "\b\f\n\r\t"[at]
		}
		if c != 'u' {
			dst = append(dst, c)
			continue
		}
		r, _ := hex4(raw)
		raw = raw[4:]
		if utf16.IsSurrogate(r) {
			second := rune(-1)
			if bytes.HasPrefix(raw, []byte(`\u`)) {
				second, _ = hex4(raw[2:])
			}
			if r = utf16.DecodeRune(r, second); r == utf8.RuneError {
				lone++
			} else {
				raw = raw[6:]
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
