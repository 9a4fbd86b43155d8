package shard

import (
	"bytes"
	"io"
)

// csvRecords takes records apart as Python's csv module does with its dialects excel and excel-tab: quotes count at the start of
// a field alone, two of them inside are one, and what follows the closing one belongs to the field. One field is gathered, up to
// a limit, so a long record is not held.
type csvRecords struct {
	path   string
	comma  byte
	r      io.Reader
	buf    []byte
	lo, hi int      // what is unread in buf
	offset int64    // of buf[lo]
	lines  int64    // begun so far
	text   []byte   // the field that is gathered
	fields []string // of the header
}

func newCSVRecords(r io.Reader, path string, comma byte) *csvRecords {
	return &csvRecords{path: path, comma: comma, r: r, buf: make([]byte, readBufferBytes), lines: 1}
}

// csvRecord is where a record lies and what it is made of.
type csvRecord struct {
	start, end int64 // without its line end
	line       int64 // that it begins on
	fields     int
	openQuote  int64 // line of a quote that does not end; 0: none
}

// allColumns stands for every field of the header.
const allColumns = -1

// csvState is where in a record the next byte lies.
type csvState int

const (
	startField csvState = iota
	inField
	inQuotes
	quoteInQuotes
)

// record reads the next record that is not blank and gathers one column into c.text, or all of them into c.fields. What goes beyond
// limit bytes of the record is not gathered; with all columns, it is not even read.
func (c *csvRecords) record(column int, limit int64) (csvRecord, error) {
	for {
		rec, blank, err := c.read(column, limit)
		if err != nil || !blank {
			return rec, err
		}
	}
}

// read reads the next record, blank or not.
func (c *csvRecords) read(column int, limit int64) (rec csvRecord, blank bool, err error) {
	if c.offset == 0 {
		if err := c.skipBOM(); err != nil {
			return rec, false, err
		}
	}
	rec = csvRecord{start: c.offset, line: c.lines}
	c.text, c.fields = c.text[:0], c.fields[:0]
	state, quote := startField, int64(0)
	for {
		if err := c.need(1); err == io.EOF && c.offset > rec.start {
			if rec.end = c.offset; state == inQuotes {
				rec.openQuote = quote
			}
			c.endField(&rec, column)
			return rec, false, nil
		} else if err != nil {
			return rec, false, err
		}
		if rec.end = c.offset; column == allColumns && rec.end-rec.start > limit {
			return rec, false, nil
		}
		gather := (column == rec.fields || column == allColumns) && rec.end-rec.start <= limit
		if run := c.run(state); len(run) > 0 {
			if gather {
				c.text = append(c.text, run...)
			}
			c.lines += int64(bytes.Count(run, []byte("\n")))
			c.pass(len(run))
			continue
		}
		b := c.buf[c.lo]
		c.pass(1)
		keep := false
		switch {
		case state == inQuotes: // and b is a quote
			state = quoteInQuotes
		case b == '"' && state == startField:
			state, quote = inQuotes, c.lines
		case b == '"' && state == quoteInQuotes:
			state, keep = inQuotes, true
		case b == c.comma:
			c.endField(&rec, column)
			state = startField
		case b == '\n' || b == '\r':
			blank = rec.fields == 0 && state == startField
			c.endField(&rec, column)
			return rec, blank, c.endLine(b)
		default:
			state, keep = inField, true
		}
		if keep && gather {
			c.text = append(c.text, b)
		}
	}
}

// run is what may be taken without a look at each byte: up to the next one that means something in this state.
func (c *csvRecords) run(state csvState) []byte {
	b := c.buf[c.lo:c.hi]
	switch state {
	case inQuotes:
		if i := bytes.IndexByte(b, '"'); i >= 0 {
			return b[:i]
		}
		return b
	case inField:
		for i, x := range b {
			if x == '\n' || x == '\r' || x == c.comma {
				return b[:i]
			}
		}
		return b
	}
	return nil
}

func (c *csvRecords) endField(rec *csvRecord, column int) {
	if column == allColumns {
		c.fields = append(c.fields, string(c.text))
		c.text = c.text[:0]
	}
	rec.fields++
}

// endLine counts a line that b ended, and passes over the "\n" behind a "\r". An end of the source there is none of the record's.
func (c *csvRecords) endLine(b byte) error {
	c.lines++
	if b != '\r' {
		return nil
	}
	if err := c.need(1); err != nil {
		if err == io.EOF {
			return nil
		}
		return err
	}
	if c.buf[c.lo] == '\n' {
		c.pass(1)
	}
	return nil
}

func (c *csvRecords) skipBOM() error {
	if err := c.need(3); err != nil && err != io.EOF {
		return err
	}
	if bytes.HasPrefix(c.buf[c.lo:c.hi], []byte("\uFEFF")) {
		c.pass(3)
	}
	return nil
}

func (c *csvRecords) pass(n int) {
	c.lo += n
	c.offset += int64(n)
}

// need reads until n bytes are unread in buf, or returns what kept it from that.
func (c *csvRecords) need(n int) error {
	if c.hi-c.lo >= n {
		return nil
	}
	copy(c.buf, c.buf[c.lo:c.hi])
	c.lo, c.hi = 0, c.hi-c.lo
	for range maxEmptyReads {
		k, err := c.r.Read(c.buf[c.hi:])
		c.hi += k
		if c.hi >= n {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// maxEmptyReads is after how many reads without a byte a source is given up.
const maxEmptyReads = 100
