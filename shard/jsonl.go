package shard

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// maxNamed is how many names of fields an error lists.
const maxNamed = 8

// jsonLines streams the documents of JSON lines: a string in an object a line. Blank lines are passed over.
type jsonLines struct {
	*lineReader
	source int
	field  string
	parts  []string // of field, at its dots
	scan   jsonScan
	text   []byte
}

func newJSONLines(lines *lineReader, source int, field string) *jsonLines {
	return &jsonLines{lineReader: lines, source: source, field: field, parts: strings.Split(field, ".")}
}

func (j *jsonLines) next() (document, error) {
	for {
		ln, err := j.lineReader.next()
		if err != nil {
			return document{}, err
		}
		if len(bytes.TrimSpace(ln.text)) == 0 {
			continue
		}
		text, err := j.textOf(ln)
		if err != nil {
			return document{}, err
		}
		return document{source: j.source, path: j.path, offset: ln.start, line: ln.number, bytes: ln.end - ln.start,
			text: recordText(text)}, nil
	}
}

func (j *jsonLines) textOf(ln line) ([]byte, error) {
	bad := &BadRecord{Path: j.path, Offset: ln.start, Line: ln.number, GoesOn: true}
	value, err := j.scan.find(ln.text, j.field, j.parts)
	var wrong *jsonError
	if errors.As(err, &wrong) {
		bad.Reason, bad.Detail, bad.Hint = ReasonBadJSON, wrong.what, "each line is to be a JSON object; jq -c . or jq -c '.[]' writes such lines"
		bad.Offset += int64(wrong.at)
		return nil, bad
	}
	switch value.kind {
	case '"':
	case 0:
		bad.Reason, bad.Detail, bad.Hint = ReasonNoField, noField(j.field, j.scan.names(ln.text)), fieldHint
		return nil, bad
	case 'n':
		bad.Reason, bad.Detail = ReasonNoField, fmt.Sprintf("%q is null", j.field)
		return nil, bad
	default:
		found := map[byte]string{'0': "a number", 't': "a boolean", '{': "an object", '[': "an array"}[value.kind]
		bad.Reason, bad.Detail, bad.Hint = ReasonNotString, fmt.Sprintf("%q is %s", j.field, found), fieldHint
		return nil, bad
	}
	if !value.escaped {
		return value.raw, nil
	}
	var lone int64
	if j.text, lone = appendUnquoted(j.text[:0], value.raw); lone > 0 && j.errs != EncodingReplace {
		bad.Reason, bad.Detail = ReasonNotUTF8, fmt.Sprintf("%q holds half of a surrogate pair (\\ud800 to \\udfff)", j.field)
		bad.Hint = "set encoding_errors: replace to read it with U+FFFD in such places"
		return nil, bad
	}
	j.replaced += lone
	return j.text, nil
}

const fieldHint = "set text_field to the field that holds the text"

// noField names the fields that there are in place of field.
func noField(field string, names []string) string {
	if len(names) == 0 {
		return fmt.Sprintf("%q is not there, nor any other", field)
	}
	quoted := make([]string, min(len(names), maxNamed))
	for i := range quoted {
		quoted[i] = fmt.Sprintf("%q", names[i])
	}
	return fmt.Sprintf("%q is not there, but %s", field, strings.Join(quoted, ", "))
}

// recordText is the text of a record as a plain text of the same bytes has it: lines end in "\n" alone, the last one without; a blank
// text is empty.
func recordText(text []byte) string {
	if len(bytes.TrimSpace(text)) == 0 {
		return ""
	}
	if bytes.IndexByte(text, '\r') >= 0 {
		text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	}
	if trimmed := bytes.TrimSuffix(text, []byte("\n")); len(trimmed) < len(text) {
		return string(trimmed)
	}
	return string(bytes.TrimSuffix(text, []byte("\r")))
}
