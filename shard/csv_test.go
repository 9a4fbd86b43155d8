package shard

import (
	"bytes"
	"encoding/csv"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Odd tables are what Python's csv module makes of them.
func TestCSVAsPython(t *testing.T) {
	for _, c := range goldenJSON[[]struct {
		CSV   string
		Texts []string
	}](t, "csv.json") {
		for i := range c.Texts {
			c.Texts[i] = recordText([]byte(c.Texts[i]))
		}
		for how, reads := range readings {
			docs, bad := readAll(t, "x.csv", []byte(c.CSV), readOptions{}, reads)
			if !slices.Equal(texts(docs), c.Texts) || len(bad) > 0 {
				t.Errorf("%q read %s: %q, %v; Python has %q", c.CSV, how, texts(docs), bad, c.Texts)
			}
		}
	}
}

// A quote without an end is passed over without being held.
func TestCSVLongRecord(t *testing.T) {
	r := io.MultiReader(strings.NewReader("id,text\n1,\""), io.LimitReader(endless{}, 200<<20), strings.NewReader("\"\n2,b\n"))
	c := newCSVReader(r, "x.csv", 0, ',', "text", EncodingStrict)
	c.limit = 1 << 20
	if got := textsOf(t, c); !slices.Equal(got, []string{"too long at byte 8, line 2", "b"}) || cap(c.text) > 4<<20 {
		t.Errorf("%q in a buffer of %d bytes", got, cap(c.text))
	}
	c = newCSVReader(io.LimitReader(endless{}, 200<<20), "x.csv", 0, ',', "text", EncodingStrict)
	if got := textsOf(t, c); !slices.Equal(got, []string{"bad CSV at byte 0, line 1", "(lost)"}) || c.offset > 4<<20 {
		t.Errorf("%q after %d bytes", got, c.offset)
	}
}

// FuzzCSV: no documents but those that encoding/csv has too, where it takes the table; the same however it is read; places that
// lie in the input.
func FuzzCSV(f *testing.F) {
	for _, c := range goldenJSON[[]struct{ CSV string }](f, "csv.json") {
		f.Add([]byte(c.CSV))
	}
	f.Add([]byte("a,text\n1,\"x\n"))
	f.Add([]byte("text\n\xff\n\r\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		docs, bad := readAll(t, "x.csv", in, readOptions{encodingErrors: EncodingReplace}, readings["whole"])
		checkSame(t, "x.csv", in, readOptions{encodingErrors: EncodingReplace}, docs, bad)
		at := int64(0)
		for _, d := range docs {
			if d.offset < at || d.bytes < 0 || d.offset+d.bytes > int64(len(in)) {
				t.Fatalf("a record at %d, of %d bytes, after %d of %d", d.offset, d.bytes, at, len(in))
			}
			at = d.offset + d.bytes
		}
		// encoding/csv drops "\r" in front of "\n" inside quotes, as the text of a record does, takes no lone "\r" for a line's end,
		// and stops at what it does not take.
		if !utf8.Valid(in) || bytes.Contains(bytes.ReplaceAll(in, []byte("\r\n"), nil), []byte("\r")) || bytes.ContainsRune(in, 0) || len(bad) > 0 {
			return
		}
		r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(in, []byte("\uFEFF"))))
		records, err := r.ReadAll()
		if err != nil || len(records) == 0 {
			return
		}
		column := slices.Index(records[0], "text")
		var want []string
		for _, record := range records[1:] {
			want = append(want, recordText([]byte(record[column])))
		}
		if !slices.Equal(texts(docs), want) {
			t.Fatalf("%q: %q, encoding/csv has %q", in, texts(docs), want)
		}
	})
}
