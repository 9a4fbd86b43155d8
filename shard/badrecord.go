package shard

import (
	"fmt"
	"strings"
)

// Reason is a short name of what is wrong with a record, the same for all such records, so that they can be counted.
type Reason string

const (
	ReasonNotUTF8      Reason = "not UTF-8"
	ReasonNUL          Reason = "NUL byte"
	ReasonTooLong      Reason = "too long"
	ReasonNoField      Reason = "no field"          // a record without the text field
	ReasonNotString    Reason = "not a string"      // the text field holds something else
	ReasonBadJSON      Reason = "bad JSON"          // a line that is no JSON object
	ReasonBadCSV       Reason = "bad CSV"           // a record that the quotes or the header do not allow
	ReasonBadParquet   Reason = "bad Parquet"       // a damaged file, or one whose column is no text
	ReasonTruncated    Reason = "truncated archive" // it ends too early
	ReasonCorrupt      Reason = "corrupt archive"   // its structure or a checksum is wrong
	ReasonTooMuch      Reason = "needs too much memory"
	ReasonWrongContent Reason = "not what its name says"
	ReasonVanished     Reason = "vanished" // listed, and not there any more
)

// BadRecord is the error of a record that cannot be a document, or of a source whose rest cannot be read.
// What lies before it has been read and is whole.
type BadRecord struct {
	Path   string // of the source
	Offset int64  // of what is bad, in the source's bytes after decompression; -1: unknown, as in Parquet
	Line   int64  // from 1; in Parquet the row; 0: unknown
	Reason Reason
	Detail string // what was found, or empty
	Hint   string // the way out
	// GoesOn says that the reader's next call goes on behind the record. Otherwise the rest of the source is lost.
	GoesOn bool
	Err    error // what caused it, or nil
}

func (e *BadRecord) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "shard: %s: %s", e.Path, e.Reason)
	if e.Offset >= 0 {
		fmt.Fprintf(&b, " at byte %d", e.Offset)
	}
	if e.Line > 0 {
		sep := ","
		if e.Offset < 0 {
			sep = " in"
		}
		fmt.Fprintf(&b, "%s %s %d", sep, e.lineName(), e.Line)
	}
	if e.Detail != "" {
		fmt.Fprintf(&b, ": %s", e.Detail)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, "; %s", e.Hint)
	}
	return b.String()
}

func (e *BadRecord) Unwrap() error { return e.Err }

func (e *BadRecord) lineName() string {
	if strings.HasSuffix(strings.ToLower(e.Path), ".parquet") {
		return "row"
	}
	return "line"
}

// documentStream streams the documents of one source, in order.
type documentStream interface {
	// next returns the next document, or io.EOF behind the last. A *BadRecord that goes on may be passed over by calling it
	// again; any other error ends the source, and comes again.
	next() (document, error)
}
