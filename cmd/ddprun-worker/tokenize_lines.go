package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/ddprun/ddprun/internal/tokenizer"
)

const (
	readBufferBytes = 1 << 16
	chunkBytes      = 1 << 16 // a chunk ends once it has as many; one line may be longer
)

// chunk is some consecutive lines of the input.
type chunk struct {
	firstLine int      // counted from 1
	texts     []string // one a line, or two with --pairs
}

// lineReader turns input into chunks of texts.
type lineReader struct {
	in      *bufio.Reader
	jsonl   bool
	pairs   bool
	replace bool
	line    int // number of the line read last
	err     error
}

func newLineReader(in io.Reader, o tokenizeOptions) *lineReader {
	return &lineReader{
		in: bufio.NewReaderSize(in, readBufferBytes), jsonl: o.jsonl, pairs: o.pairs, replace: o.encodingErrors == "replace",
	}
}

// next returns the next chunk, of at least one line, or io.EOF. It does not wait for more input than it needs for that, so
// whoever writes a line and waits for its ids gets them. After an error, which comes after the chunks before it, it is over.
func (r *lineReader) next() (*chunk, error) {
	if r.err != nil {
		return nil, r.err
	}
	c := &chunk{firstLine: r.line + 1}
	for size := 0; size < chunkBytes; {
		line, err := r.readLine()
		if err == nil {
			r.line++
			c.texts, err = r.appendTexts(c.texts, line)
		}
		if err != nil {
			r.err = err
			break
		}
		size += len(line) + 1
		if waiting, _ := r.in.Peek(r.in.Buffered()); !bytes.Contains(waiting, []byte("\n")) {
			break
		}
	}
	if len(c.texts) == 0 {
		return nil, r.err
	}
	return c, nil
}

// readLine returns a line without its end. io.EOF: there is none.
func (r *lineReader) readLine() ([]byte, error) {
	line, err := r.in.ReadBytes('\n')
	switch {
	case err == io.EOF && len(line) == 0:
		return nil, io.EOF
	case err != nil && err != io.EOF:
		return nil, fmt.Errorf("standard input, line %d: %w", r.line+1, err)
	case err == nil:
		line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r"))
	}
	return line, nil
}

// appendTexts appends what a line says: one text, or two with --pairs.
func (r *lineReader) appendTexts(texts []string, line []byte) ([]string, error) {
	text := string(line)
	if !utf8.ValidString(text) {
		if !r.replace {
			return texts, r.wrong(errors.New("not UTF-8; --encoding-errors replace takes it, with U+FFFD in the place of what is wrong"))
		}
		text = tokenizer.ReplaceInvalidUTF8(text)
	}
	if !r.jsonl {
		return append(texts, text), nil
	}
	if at := loneSurrogate(text); at >= 0 && !r.replace {
		return texts, r.wrong(fmt.Errorf(
			"%s is half of a surrogate pair, which no text has; --encoding-errors replace takes it as U+FFFD", text[at:at+6]))
	}
	parsed, err := parseJSONLine(text, r.pairs)
	if err != nil {
		return texts, r.wrong(err)
	}
	return append(texts, parsed...), nil
}

func (r *lineReader) wrong(err error) error {
	return inputError{fmt.Errorf("standard input, line %d: %w", r.line, err)}
}

// parseJSONLine reads a JSON string, or an array of two. Lone surrogates become U+FFFD.
func parseJSONLine(line string, pair bool) ([]string, error) {
	var value any
	if err := json.Unmarshal([]byte(line), &value); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if text, ok := value.(string); ok && !pair {
		return []string{text}, nil
	}
	if array, ok := value.([]any); ok && pair && len(array) == 2 {
		first, ok1 := array[0].(string)
		second, ok2 := array[1].(string)
		if ok1 && ok2 {
			return []string{first, second}, nil
		}
	}
	if pair {
		return nil, errors.New(`want a JSON array of two strings, such as ["a", "b"]`)
	}
	return nil, errors.New(`want a JSON string, such as "a"`)
}

// loneSurrogate returns the place of the first \uXXXX in a JSON text that is half of a surrogate pair without the other; -1: none.
func loneSurrogate(text string) int {
	for i := 0; i+1 < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		unit, ok := escapedUnit(text[i:])
		switch {
		case !ok:
			i++ // another escape: \\ hides what follows
		case !utf16.IsSurrogate(unit):
			i += 5
		default:
			low, _ := escapedUnit(text[i+6:])
			if utf16.DecodeRune(unit, low) == utf8.RuneError {
				return i
			}
			i += 11
		}
	}
	return -1
}

// escapedUnit reads the \uXXXX that text starts with.
func escapedUnit(text string) (rune, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(text[2:6], 16, 16)
	return rune(unit), err == nil
}
