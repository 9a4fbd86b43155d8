package shard

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// lineReader reads lines, the unit in which text is read: an ill-formed UTF-8 sequence never goes on past a line feed.
type lineReader struct {
	path     string
	errs     EncodingErrors
	limit    int64 // longest line, in bytes
	replaced int64 // U+FFFD put in so far

	r      *bufio.Reader
	offset int64  // of the next byte to read
	lines  int64  // read so far
	raw    []byte // a line that is longer than r's buffer
	failed error  // the source cannot be read any further
}

func newLineReader(r io.Reader, path string, errs EncodingErrors) *lineReader {
	return &lineReader{path: path, errs: errs, limit: maxDocumentBytes, r: bufio.NewReaderSize(r, readBufferBytes)}
}

// raiseHint is the way out for a record that is longer than it may be.
const raiseHint = "raise max_document_bytes, if it is text at all"

// readBufferBytes is how much of a source is read at once.
const readBufferBytes = 64 << 10

// line is one line without its end: where it lies in the source, and its text,
// valid until the next line is read.
type line struct {
	start, end int64
	number     int64 // from 1
	text       []byte
}

// next returns the next line, valid UTF-8, or io.EOF. Behind a bad record it goes on with the line after it.
func (l *lineReader) next() (line, error) {
	ln, err := l.nextRaw()
	if err != nil || utf8.Valid(ln.text) {
		return ln, err
	}
	if l.errs != EncodingReplace {
		return line{}, l.notUTF8(ln)
	}
	var n int64
	ln.text, n = appendReplaced(nil, ln.text)
	l.replaced += n
	return ln, nil
}

// nextRaw is next without a look at the encoding.
func (l *lineReader) nextRaw() (line, error) {
	start := l.offset
	raw, err := l.read()
	if err != nil {
		return line{}, err
	}
	text := raw
	if start == 0 && bytes.HasPrefix(text, []byte("\uFEFF")) {
		text, start = text[3:], 3
	}
	text = bytes.TrimSuffix(text, []byte("\n"))
	text = bytes.TrimSuffix(text, []byte("\r"))
	if int64(len(text)) > l.limit {
		return line{}, l.tooLong(start, l.lines)
	}
	return line{start: start, end: start + int64(len(text)), number: l.lines, text: text}, nil
}

// read returns the bytes of the next line with its end.
func (l *lineReader) read() ([]byte, error) {
	if l.failed != nil {
		return nil, l.failed
	}
	start := l.offset
	piece, err := l.r.ReadSlice('\n')
	l.offset += int64(len(piece))
	if err == nil || err == io.EOF && len(piece) > 0 {
		l.lines++
		return piece, nil
	}
	l.raw = l.raw[:0]
	size := 0
	for {
		// A line end is two bytes at most.
		if size += len(piece); int64(size) <= l.limit+2 {
			l.raw = append(l.raw, piece...)
		}
		if err != bufio.ErrBufferFull {
			break
		}
		piece, err = l.r.ReadSlice('\n')
		l.offset += int64(len(piece))
	}
	if err != nil && err != io.EOF {
		return nil, l.fail(err)
	}
	if size == 0 {
		return nil, io.EOF
	}
	l.lines++
	if int64(size) > l.limit+2 {
		return nil, l.tooLong(start, l.lines)
	}
	return l.raw, nil
}

// fail keeps the error that ends the source. What was read of the last line is lost.
func (l *lineReader) fail(err error) error {
	var bad *BadRecord
	if errors.As(err, &bad) {
		if bad.Line == 0 {
			bad.Line = l.lines + 1
		}
		l.failed = err
	} else {
		l.failed = fmt.Errorf("shard: read %s at byte %d: %w", l.path, l.offset, err)
	}
	return l.failed
}

func (l *lineReader) tooLong(offset, number int64) error {
	return &BadRecord{Path: l.path, Offset: offset, Line: number, Reason: ReasonTooLong, GoesOn: true,
		Detail: fmt.Sprintf("the line is larger than %d bytes", l.limit), Hint: raiseHint}
}

func (l *lineReader) notUTF8(ln line) error {
	bad := firstInvalid(ln.text)
	detail := fmt.Sprintf("byte 0x%02x", ln.text[bad])
	if ln.start == 0 && (bytes.HasPrefix(ln.text, []byte{0xFF, 0xFE}) || bytes.HasPrefix(ln.text, []byte{0xFE, 0xFF})) {
		detail = "it looks like UTF-16"
	}
	return &BadRecord{Path: l.path, Offset: ln.start + int64(bad), Line: ln.number, Reason: ReasonNotUTF8, GoesOn: true, Detail: detail,
		Hint: "convert it (iconv -t UTF-8), or set encoding_errors: replace to read it with U+FFFD in such places"}
}
