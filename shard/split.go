package shard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
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
	offset int64 // of its first byte in the source, decompressed
	line   int64 // of its first byte, from 1; in Parquet the row
	bytes  int64 // in the source, without its last line end
	text   string
	hash   [hashBytes]byte // of the text; set once it has been cut into sentences
}

// splitter streams the documents of one plain text.
type splitter struct {
	*lineReader
	source int
	unit   TextUnit
	text   []byte // the document being gathered
	behind bool   // a bad record was met: the rest of its document is passed over
}

func newSplitter(r io.Reader, path string, source int, unit TextUnit, errs EncodingErrors) *splitter {
	return &splitter{lineReader: newLineReader(r, path, errs), source: source, unit: unit}
}

// next returns the next document that is not blank, or io.EOF. A document with a bad line is bad as a whole.
func (s *splitter) next() (document, error) {
	if err := s.passOver(); err != nil {
		return document{}, err
	}
	doc := document{source: s.source, path: s.path, offset: -1}
	blank := true
	s.text = s.text[:0]
	for {
		ln, err := s.lineReader.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			s.behind = s.unit != TextLine
			return document{}, s.hint(err)
		}
		blankLine := len(bytes.TrimSpace(ln.text)) == 0
		if blankLine && s.unit != TextFile {
			if doc.offset < 0 {
				continue
			}
			break
		}
		if doc.offset < 0 {
			doc.offset, doc.line = ln.start, ln.number
		} else {
			s.text = append(s.text, '\n')
		}
		s.text = append(s.text, ln.text...)
		doc.bytes = ln.end - doc.offset
		blank = blank && blankLine
		if doc.bytes > s.limit {
			s.behind = true
			return document{}, s.tooLong(doc.offset, doc.line)
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

// passOver reads on to the end of the document that a bad record lies in, whatever else is wrong with it.
func (s *splitter) passOver() error {
	for s.behind {
		ln, err := s.nextRaw()
		var bad *BadRecord
		switch {
		case err == nil:
			s.behind = s.unit == TextFile || len(bytes.TrimSpace(ln.text)) > 0
		case !errors.As(err, &bad) || !bad.GoesOn:
			return err
		}
	}
	return nil
}

func (s *splitter) tooLong(offset, number int64) error {
	return s.hint(&BadRecord{Path: s.path, Offset: offset, Line: number, Reason: ReasonTooLong, GoesOn: true,
		Detail: fmt.Sprintf("the document is larger than %d bytes", s.limit)})
}

// hint says what a too long document of a plain text asks for.
func (s *splitter) hint(err error) error {
	var bad *BadRecord
	if errors.As(err, &bad) && bad.Reason == ReasonTooLong && s.unit != TextLine {
		bad.Hint = "set text_unit: paragraph or line to cut the file into smaller documents, or raise max_document_bytes"
	}
	return err
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
