package shard

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// parquetReader streams the documents of a Parquet file: one column's string a row. It reads that column's pages alone, one at a
// time. Behind a damaged page it goes on with the next row group.
type parquetReader struct {
	path     string
	source   int
	field    string
	errs     EncodingErrors
	limit    int64
	replaced int64

	raw    *rawReaderAt
	file   *parquet.File
	column int
	pages  columnPages
	group  int   // of rows, the next one to open
	row    int64 // the next one, from 0
	end    int64 // of the rows of the open group
	bytes  int64 // of the column's text so far
	failed error
}

func newParquetReader(r io.ReaderAt, size int64, path string, source int, field string, errs EncodingErrors) *parquetReader {
	return &parquetReader{path: path, source: source, field: field, errs: errs, limit: maxDocumentBytes,
		raw: &rawReaderAt{r: r, size: size}, pages: columnPages{limit: maxPageBytes}}
}

func (p *parquetReader) next() (document, error) {
	if p.failed != nil {
		return document{}, p.failed
	}
	if p.file == nil {
		if err := p.open(); err != nil {
			return document{}, p.fail(err)
		}
	}
	text, null, err := p.read()
	if err != nil {
		return document{}, p.fail(err)
	}
	p.row++
	return p.document(text, null)
}

// document makes one of the row before p.row.
func (p *parquetReader) document(text []byte, null bool) (document, error) {
	doc := document{source: p.source, path: p.path, offset: p.bytes, line: p.row}
	bad := &BadRecord{Path: p.path, Offset: -1, Line: p.row, GoesOn: true}
	if null {
		bad.Reason, bad.Detail = ReasonNoField, fmt.Sprintf("%q is null", p.field)
		return document{}, bad
	}
	doc.bytes = int64(len(text))
	p.bytes += doc.bytes
	switch {
	case doc.bytes > p.limit:
		bad.Reason, bad.Detail = ReasonTooLong, fmt.Sprintf("%q has %d bytes, more than %d", p.field, len(text), p.limit)
		bad.Hint = raiseHint
		return document{}, bad
	case !utf8.Valid(text):
		if p.errs != EncodingReplace {
			bad.Reason, bad.Detail = ReasonNotUTF8, fmt.Sprintf("byte 0x%02x in %q", text[firstInvalid(text)], p.field)
			bad.Hint = "set encoding_errors: replace to read it with U+FFFD in such places"
			return document{}, bad
		}
		var n int64
		text, n = appendReplaced(nil, text)
		p.replaced += n
	}
	doc.text = recordText(text)
	return doc, nil
}

// fail ends the open row group, and the source where no other follows.
func (p *parquetReader) fail(err error) error {
	if err == io.EOF {
		p.failed = err
		return err
	}
	if p.raw.failed != nil {
		p.failed = fmt.Errorf("shard: read %s: %w", p.path, p.raw.failed)
		return p.failed
	}
	var bad *BadRecord
	if !errors.As(err, &bad) {
		bad = &BadRecord{Reason: ReasonBadParquet, Err: err, Hint: "write the file again"}
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			bad.Reason, bad.Err = ReasonTruncated, io.ErrUnexpectedEOF
		}
	}
	bad.Path, bad.Offset = p.path, -1
	if p.file != nil {
		bad.Line = p.row + 1
		bad.GoesOn = p.group < len(p.file.Metadata().RowGroups)
		bad.Detail = fmt.Sprintf("rows %d to %d are lost", p.row+1, max(p.end, p.row+1))
		p.row = p.end
	}
	if !bad.GoesOn {
		p.failed = bad
	}
	return bad
}

// open reads the file's description and finds the column.
func (p *parquetReader) open() (err error) {
	defer recoverCorrupt(&err)
	if err := p.checkFooter(); err != nil {
		return err
	}
	file, err := parquet.OpenFile(p.raw, p.raw.size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return err
	}
	leaf, ok := file.Schema().Lookup(p.field)
	if !ok {
		leaf, ok = file.Schema().Lookup(strings.Split(p.field, ".")...)
	}
	if !ok {
		var names []string
		for _, path := range file.Schema().Columns() {
			names = append(names, strings.Join(path, "."))
		}
		return &BadRecord{Reason: ReasonNoField, Detail: noField(p.field, names), Hint: "set text_field to the column that holds the text"}
	}
	if what := notText(leaf); what != "" {
		return &BadRecord{Reason: ReasonNotString, Detail: fmt.Sprintf("the column %q is %s", p.field, what),
			Hint: "set text_field to a column of strings"}
	}
	p.column, p.pages.depth, p.file = leaf.ColumnIndex, leaf.MaxDefinitionLevel, file
	return nil
}

// notText says what a column is that holds no strings, one a row.
func notText(leaf parquet.LeafColumn) string {
	kind := leaf.Node.Type()
	if leaf.MaxRepetitionLevel > 0 {
		return "a list"
	}
	if kind.Kind() != parquet.ByteArray {
		return "of type " + kind.String()
	}
	if logical := kind.LogicalType(); logical != nil {
		switch logical.Value.(type) {
		case nil, *format.StringType, *format.EnumType, *format.JsonType:
		default:
			return "of type " + kind.String()
		}
	}
	return ""
}

// checkFooter looks at both ends of the file before anything is allocated from what they say.
func (p *parquetReader) checkFooter() error {
	const hint = "fetch or write the file again"
	var head [4]byte
	var tail [8]byte
	if p.raw.size < int64(len(head)+len(tail)) {
		return &BadRecord{Reason: ReasonTruncated, Detail: fmt.Sprintf("%d bytes are too few for Parquet", p.raw.size), Hint: hint}
	}
	if _, err := p.raw.ReadAt(head[:], 0); err != nil {
		return err
	}
	if _, err := p.raw.ReadAt(tail[:], p.raw.size-int64(len(tail))); err != nil {
		return err
	}
	switch {
	case string(head[:]) == "PARE":
		return &BadRecord{Reason: ReasonBadParquet, Detail: "it is encrypted", Hint: "decrypt it first"}
	case string(head[:]) != "PAR1":
		return wrongContent(p.path, "its ending says Parquet", sniff(head[:]))
	case string(tail[4:]) != "PAR1":
		return &BadRecord{Reason: ReasonTruncated, Detail: "it does not end as Parquet", Hint: hint}
	case int64(le.Uint32(tail[:])) > p.raw.size-int64(len(head)+len(tail)):
		return &BadRecord{Reason: ReasonBadParquet, Detail: "its description is larger than the file", Hint: hint}
	}
	description := make([]byte, le.Uint32(tail[:]))
	if _, err := p.raw.ReadAt(description, p.raw.size-int64(len(tail)+len(description))); err != nil {
		return err
	}
	if _, err := thriftBytes(description); err != nil {
		return &BadRecord{Reason: ReasonBadParquet, Detail: "its description is damaged", Err: err, Hint: hint}
	}
	return nil
}

// read returns the next row's string, or io.EOF.
func (p *parquetReader) read() (text []byte, null bool, err error) {
	defer recoverCorrupt(&err)
	for p.row == p.end {
		if err := p.openGroup(); err != nil {
			return nil, false, err
		}
	}
	return p.pages.next()
}

func (p *parquetReader) openGroup() error {
	groups := p.file.Metadata().RowGroups
	if p.group == len(groups) {
		return io.EOF
	}
	group := groups[p.group]
	p.group++
	if group.NumRows < 0 || group.NumRows > math.MaxInt64-p.row || p.column >= len(group.Columns) {
		return fmt.Errorf("a group of %d rows and %d columns", group.NumRows, len(group.Columns))
	}
	p.end = p.row + group.NumRows
	return p.pages.begin(p.raw, group.Columns[p.column].MetaData, group.NumRows)
}

// rawReaderAt remembers an error of reading the file, which is none of its content's.
type rawReaderAt struct {
	r      io.ReaderAt
	size   int64
	failed error
}

func (r *rawReaderAt) ReadAt(b []byte, at int64) (int, error) {
	if at < 0 { // a damaged file says so; the operating system is not to be asked
		return 0, fmt.Errorf("a place at byte %d", at)
	}
	n, err := r.r.ReadAt(b, at)
	if err != nil && err != io.EOF {
		r.failed = err
	}
	return n, err
}
