package shard

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// TextUnit says what one document is.
type TextUnit string

const (
	TextFile      TextUnit = "file"      // a whole file
	TextParagraph TextUnit = "paragraph" // what blank lines part
	TextLine      TextUnit = "line"      // a line that is not blank
)

// SentenceUnit says where sentences end inside a document.
type SentenceUnit string

const (
	SentenceNone SentenceUnit = "none" // a document is one sentence
	SentenceLine SentenceUnit = "line" // a line that is not blank is a sentence
	SentenceAuto SentenceUnit = "auto" // PrepareConfig.Segment says
)

// maxDocumentBytes bounds a document: it is held in memory, and shards count its
// bytes and tokens in 32 bits.
const maxDocumentBytes = math.MaxUint32

// document is a piece of a source before it is cut into sentences. Lines inside
// the text end in "\n" alone; the last one has no line end.
type document struct {
	source int
	path   string
	offset int64 // of its first byte in the source
	bytes  int64 // in the source, without its last line end
	text   string
}

// splitter streams the documents of one source. Lines are its unit of reading: an
// ill-formed UTF-8 sequence never goes on past a line feed.
type splitter struct {
	path     string
	source   int
	unit     TextUnit
	errs     EncodingErrors
	limit    int64 // largest document, in bytes
	replaced int64 // U+FFFD put in so far

	r      *bufio.Reader
	offset int64  // of the next byte to read
	lines  int64  // read so far
	raw    []byte // the last line read
	text   []byte // the document being gathered
}

func newSplitter(r io.Reader, path string, source int, unit TextUnit, errs EncodingErrors) *splitter {
	return &splitter{path: path, source: source, unit: unit, errs: errs, limit: maxDocumentBytes,
		r: bufio.NewReaderSize(r, 64<<10)}
}

// line is one line without its end: where it lies in the source, and its text,
// valid until the next line is read.
type line struct {
	start, end int64
	text       []byte
}

// next returns the next document that is not blank, or io.EOF.
func (s *splitter) next() (document, error) {
	doc := document{source: s.source, path: s.path, offset: -1}
	blank := true
	s.text = s.text[:0]
	for {
		ln, err := s.readLine()
		if err == io.EOF {
			break
		}
		if err != nil {
			return document{}, err
		}
		blankLine := len(bytes.TrimSpace(ln.text)) == 0
		if blankLine && s.unit != TextFile {
			if doc.offset < 0 {
				continue
			}
			break
		}
		if doc.offset < 0 {
			doc.offset = ln.start
		} else {
			s.text = append(s.text, '\n')
		}
		s.text = append(s.text, ln.text...)
		doc.bytes = ln.end - doc.offset
		blank = blank && blankLine
		if doc.bytes > s.limit {
			return document{}, s.tooLong(doc.offset)
		}
		if s.unit == TextLine {
			break
		}
	}
	if blank {
		return document{}, io.EOF
	}
	doc.text = string(s.text)
	return doc, nil
}

// readLine returns the next line, valid UTF-8, or io.EOF.
func (s *splitter) readLine() (line, error) {
	start := s.offset
	s.raw = s.raw[:0]
	for {
		piece, err := s.r.ReadSlice('\n')
		s.raw = append(s.raw, piece...)
		if err == nil || (err == io.EOF && len(s.raw) > 0) {
			break
		}
		if err == io.EOF {
			return line{}, io.EOF
		}
		if err != bufio.ErrBufferFull {
			return line{}, fmt.Errorf("shard: read %s at byte %d: %w", s.path, start+int64(len(s.raw)), err)
		}
		if int64(len(s.raw)) > s.limit {
			return line{}, s.tooLong(start)
		}
	}
	s.offset += int64(len(s.raw))
	s.lines++
	text := s.raw
	if start == 0 && bytes.HasPrefix(text, []byte("\uFEFF")) {
		text, start = text[3:], 3
	}
	text = bytes.TrimSuffix(text, []byte("\n"))
	text = bytes.TrimSuffix(text, []byte("\r"))
	ln := line{start: start, end: start + int64(len(text)), text: text}
	if utf8.Valid(text) {
		return ln, nil
	}
	if s.errs != EncodingReplace {
		return line{}, s.notUTF8(ln)
	}
	replaced, n := appendReplaced(nil, text)
	s.replaced += n
	ln.text = replaced
	return ln, nil
}

func (s *splitter) tooLong(offset int64) error {
	hint := "the line is too long to be text"
	if s.unit != TextLine {
		hint = "set text_unit: paragraph or line to cut the file into smaller documents"
	}
	return fmt.Errorf("shard: %s: the document at byte %d is larger than %d bytes; %s", s.path, offset, s.limit, hint)
}

func (s *splitter) notUTF8(ln line) error {
	bad := firstInvalid(ln.text)
	hint := ""
	if ln.start == 0 && (bytes.HasPrefix(ln.text, []byte{0xFF, 0xFE}) || bytes.HasPrefix(ln.text, []byte{0xFE, 0xFF})) {
		hint = " (it looks like UTF-16)"
	}
	return fmt.Errorf("shard: %s is not UTF-8%s: byte 0x%02x at offset %d, line %d; convert it (iconv -t UTF-8), "+
		"or set encoding_errors: replace to read it with U+FFFD in such places",
		s.path, hint, ln.text[bad], ln.start+int64(bad), s.lines)
}

// sentences cuts a document's text. Every sentence it returns is worth a
// tokenizer's look; blank ones are left out.
func sentences(text string, unit SentenceUnit, segment func(string) []string) []string {
	var parts []string
	switch unit {
	case SentenceLine:
		parts = strings.Split(text, "\n")
	case SentenceAuto:
		parts = segment(text)
	default:
		return []string{text}
	}
	kept := parts[:0:0]
	for _, part := range parts {
		if strings.TrimSpace(part) != "" {
			kept = append(kept, part)
		}
	}
	return kept
}
