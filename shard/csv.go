package shard

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// csvReader streams the documents of a CSV or TSV with a header: one column's text a record. A record must have as many fields as
// the header, and every quote an end; apart from that it is what Python's csv module reads.
type csvReader struct {
	*csvRecords
	source   int
	field    string
	errs     EncodingErrors
	limit    int64 // largest record, in bytes
	replaced int64
	columns  int // in the header; 0: not read yet
	column   int // that is wanted
	failed   error
}

func newCSVReader(r io.Reader, path string, source int, comma byte, field string, errs EncodingErrors) *csvReader {
	return &csvReader{csvRecords: newCSVRecords(r, path, comma), source: source, field: field, errs: errs, limit: maxDocumentBytes}
}

func (c *csvReader) next() (document, error) {
	if c.failed != nil {
		return document{}, c.failed
	}
	if c.columns == 0 {
		if err := c.readHeader(); err != nil {
			c.failed = err
			return document{}, err
		}
	}
	rec, err := c.record(c.column, c.limit)
	if err != nil {
		return document{}, c.fail(err)
	}
	bad := &BadRecord{Path: c.path, Offset: rec.start, Line: rec.line, GoesOn: true}
	switch {
	case rec.openQuote > 0:
		bad.Reason, bad.Detail = ReasonBadCSV, fmt.Sprintf("the quote of line %d has no end", rec.openQuote)
		bad.Hint = "a quote inside a quoted field is written twice"
	case rec.end-rec.start > c.limit:
		bad.Reason, bad.Detail = ReasonTooLong, fmt.Sprintf("the record is larger than %d bytes", c.limit)
		bad.Hint = "raise max_document_bytes, or look for a quote without an end, which makes one record of many"
	case rec.fields != c.columns:
		bad.Reason, bad.Detail = ReasonBadCSV, fmt.Sprintf("%d fields, where the header has %d", rec.fields, c.columns)
		bad.Hint = "a field with a separator or a line end in it is to be quoted"
	case !utf8.Valid(c.text):
		if c.errs != EncodingReplace {
			bad.Reason, bad.Detail = ReasonNotUTF8, fmt.Sprintf("byte 0x%02x in the field %q", c.text[firstInvalid(c.text)], c.field)
			bad.Hint = "convert the file (iconv -t UTF-8), or set encoding_errors: replace to read it with U+FFFD in such places"
			break
		}
		text, n := appendReplaced(nil, c.text)
		c.text, c.replaced = text, c.replaced+n
	}
	if bad.Reason != "" {
		return document{}, bad
	}
	return document{source: c.source, path: c.path, offset: rec.start, line: rec.line, bytes: rec.end - rec.start,
		text: recordText(c.text)}, nil
}

// fail keeps an error that ends the source.
func (c *csvReader) fail(err error) error {
	var bad *BadRecord
	switch {
	case err == io.EOF:
	case errors.As(err, &bad):
		if bad.Line == 0 {
			bad.Line = c.lines
		}
	default:
		err = fmt.Errorf("shard: read %s at byte %d: %w", c.path, c.offset, err)
	}
	c.failed = err
	return err
}

// readHeader finds the wanted column.
func (c *csvReader) readHeader() error {
	rec, err := c.record(allColumns, maxHeaderBytes)
	if err != nil {
		return c.fail(err)
	}
	bad := &BadRecord{Path: c.path, Offset: rec.start, Line: rec.line, Reason: ReasonBadCSV}
	found := 0
	for i, name := range c.fields {
		if name == c.field {
			c.column = i
			found++
		}
	}
	switch {
	case rec.openQuote > 0 || rec.end-rec.start > maxHeaderBytes:
		bad.Detail, bad.Hint = "no header in the first lines", "the first line is to name the columns"
	case !utf8.ValidString(strings.Join(c.fields, "")):
		bad.Reason, bad.Detail, bad.Hint = ReasonNotUTF8, "the header", "convert the file (iconv -t UTF-8)"
	case found == 0:
		bad.Reason, bad.Detail = ReasonNoField, noField(c.field, c.fields)
		bad.Hint = "the first line names the columns; set text_field to the one that holds the text"
	case found > 1:
		bad.Detail, bad.Hint = fmt.Sprintf("%d columns are called %q", found, c.field), "rename all but one"
	default:
		c.columns = rec.fields
		return nil
	}
	return c.fail(bad)
}

// maxHeaderBytes bounds the first record, which is kept whole.
const maxHeaderBytes = 1 << 20
