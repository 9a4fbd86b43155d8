package shard

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// memoryFile is a source in memory, read as reads says.
type memoryFile struct {
	*bytes.Reader
	r io.Reader
}

func newMemoryFile(data []byte, reads func(io.Reader) io.Reader) sourceFile {
	r := bytes.NewReader(data)
	return memoryFile{r, reads(r)}
}

func (m memoryFile) Read(b []byte) (int, error) { return m.r.Read(b) }
func (m memoryFile) Close() error               { return nil }

// readings are ways of reading that must make no difference.
var readings = map[string]func(io.Reader) io.Reader{
	"whole":       func(r io.Reader) io.Reader { return r },
	"one byte":    iotest.OneByteReader,
	"halves":      iotest.HalfReader,
	"data at end": iotest.DataErrReader,
}

// readAll reads a source in memory: documents, and what is said of bad records.
func readAll(t testing.TB, name string, data []byte, opts readOptions, reads func(io.Reader) io.Reader) ([]document, []*BadRecord) {
	t.Helper()
	d := newDocReader(newMemoryFile(data, reads), name, 3, opts)
	defer d.Close()
	docs, bad, err := drain(d)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return docs, bad
}

// drain reads to the end, or to an error that is none of a record's.
func drain(d *docReader) (docs []document, bad []*BadRecord, err error) {
	for {
		doc, err := d.next()
		var b *BadRecord
		switch {
		case err == io.EOF:
			return docs, bad, nil
		case err == nil:
			docs = append(docs, doc)
		case errors.As(err, &b):
			if bad = append(bad, b); !b.GoesOn {
				return docs, bad, nil
			}
		default:
			return docs, bad, err
		}
	}
}

// golden reads a file of testdata/readers, which tools/golden/make_reader_golden.py writes.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata/readers", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func goldenJSON[T any](t testing.TB, name string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(golden(t, name), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func texts(docs []document) []string {
	var all []string
	for _, d := range docs {
		all = append(all, d.text)
	}
	return all
}

// Every format and archive that another program wrote gives the same documents, however it is read.
func TestFormats(t *testing.T) {
	want := goldenJSON[[]string](t, "texts.json")
	changed := func(change func(i int, text string) string) []string {
		var all []string
		for i, text := range want {
			all = append(all, change(i, text))
		}
		return all
	}
	inner := changed(func(_ int, text string) string { return "inner " + text })
	category := changed(func(i int, _ string) string { return "category " + string(rune('0'+i%7)) })
	dot := changed(func(_ int, text string) string { return "dot " + text })
	for _, test := range []struct {
		name, field string
		want        []string
	}{
		{"ascii.jsonl", "", want}, {"ascii.jsonl", "meta.text", inner}, {"utf8.ndjson", "text", want}, {"utf8.ndjson", "meta.text", inner},
		{"excel.csv", "text", want}, {"all-quoted.csv", "text", want}, {"excel.tsv", "text", want}, {"excel.csv.gz", "", want},
		{"two.jsonl.gz", "", want}, {"padded.jsonl.gz", "", want}, {"two.jsonl.zst", "", want}, {"two.jsonl.bz2", "", want}, {"two.jsonl.xz", "", want},
		{"snappy.parquet", "", want}, {"snappy.parquet", "meta.text", inner}, {"snappy.parquet", "with.dot", dot}, {"snappy.parquet", "category", category},
		{"snappy.parquet", "large", want}, {"snappy.parquet", "binary", want}, {"zstd-v2.parquet", "", want}, {"gzip-crc.parquet", "", want},
		{"none.parquet", "", want}, {"brotli.parquet", "", want}, {"lz4.parquet", "", want}, {"delta_length_byte_array.parquet", "", want},
		{"delta_byte_array.parquet", "", want}, {"empty.parquet", "", nil},
	} {
		data := golden(t, test.name)
		var first []document
		for how, reads := range readings {
			docs, bad := readAll(t, test.name, data, readOptions{textField: test.field}, reads)
			if got := texts(docs); !slices.Equal(got, test.want) || len(bad) > 0 {
				t.Fatalf("%s, %s, read %s: %d documents, %v; want %d", test.name, test.field, how, len(got), bad, len(test.want))
			}
			if first == nil {
				first = docs
			} else if !reflect.DeepEqual(docs, first) {
				t.Errorf("%s: read %s, documents lie elsewhere", test.name, how)
			}
		}
		checkPlaces(t, test.name, first)
	}
}

// checkPlaces holds documents to their order in the source, and those of plain text and JSON lines to what lies there.
func checkPlaces(t *testing.T, name string, docs []document) {
	t.Helper()
	at, line := int64(-1), int64(0)
	for _, d := range docs {
		if d.offset < at || d.line <= line || d.source != 3 || d.path != name {
			t.Fatalf("%s: a document at byte %d, line %d, behind byte %d, line %d", name, d.offset, d.line, at, line)
		}
		at, line = d.offset+d.bytes, d.line
	}
}

func TestPlacesOfRecords(t *testing.T) {
	for name, c := range map[string]struct {
		data, field string
		want        []document
	}{
		"x.jsonl": {"{\"text\": \"a\"}\n\n{\"text\":\"b\\nc\"}\r\n{\"text\":\"d\"}", "", []document{
			{offset: 0, line: 1, bytes: 13, text: "a"}, {offset: 15, line: 3, bytes: 15, text: "b\nc"}, {offset: 32, line: 4, bytes: 12, text: "d"}}},
		"x.csv": {"\uFEFFtext,n\r\n\"a\nb\",1\r\n\r\nc,2\rd,3", "", []document{
			{offset: 11, line: 2, bytes: 7, text: "a\nb"}, {offset: 22, line: 5, bytes: 3, text: "c"}, {offset: 26, line: 6, bytes: 3, text: "d"}}},
		"x.tsv": {"n\ttext\n1\ta,b\n", "", []document{{offset: 7, line: 2, bytes: 5, text: "a,b"}}},
		"x.txt": {"a\n\nb\nc\n", "", []document{{offset: 0, line: 1, bytes: 1, text: "a"}, {offset: 3, line: 3, bytes: 3, text: "b\nc"}}},
	} {
		docs, bad := readAll(t, name, []byte(c.data), readOptions{textUnit: TextParagraph}, readings["whole"])
		for i := range c.want {
			c.want[i].path, c.want[i].source = name, 3
		}
		if !reflect.DeepEqual(docs, c.want) || bad != nil {
			t.Errorf("%s: %+v, %v", name, docs, bad)
		}
	}
}

// A record's text is what a plain text of the same bytes is: lines end in "\n", the last one without; blank is empty.
func TestRecordText(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a", "a\r\nb\r\n": "a\nb", "a\n\n": "a\n", "a\r": "a", "a\r\r\n": "a\r", "\r\na": "\na", " \t\r\n": "", "": "", "\u00a0": "",
		"a\rb": "a\rb", " a ": " a ",
	} {
		if got := recordText([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
		plain, _ := readAll(t, "x.txt", []byte(in), readOptions{textUnit: TextFile}, readings["whole"])
		if got := strings.Join(texts(plain), "|"); got != want {
			t.Errorf("%q as plain text: %q, want %q", in, got, want)
		}
	}
}

// What is wrong with a source is named with its place and the way out, and reading goes on where it can.
func TestBadInput(t *testing.T) {
	gz, parquetFile := golden(t, "two.jsonl.gz"), golden(t, "snappy.parquet")
	for _, c := range []struct {
		name, data string
		opts       readOptions
		docs       []string
		said       []string // of each bad record, in order
	}{
		{"no field.jsonl", "{\"txt\":\"a\",\"id\":1}\n{\"text\":\"b\"}\n", readOptions{}, []string{"b"}, []string{`no field at byte 0, line 1: "text" is not there, but "txt", "id"; set text_field`}},
		{"null.jsonl", "{\"text\":null}\n{\"text\":\"b\"}\n", readOptions{}, []string{"b"}, []string{`no field at byte 0, line 1: "text" is null`}},
		{"number.jsonl", "{\"text\":\"a\"}\n{\"text\":7}\n", readOptions{}, []string{"a"}, []string{`not a string at byte 13, line 2: "text" is a number`}},
		{"bad.jsonl", "{\"text\":\"a\n{\"text\":\"b\"}\n", readOptions{}, []string{"b"}, []string{"bad JSON at byte 10, line 1: the line ends in the middle"}},
		{"pretty.json", "[\n {\"text\": \"a\"}\n]\n", readOptions{}, []string{"a"}, []string{"bad JSON at byte 1, line 1", "bad JSON at byte 17, line 3"}},
		{"lone.jsonl", `{"text":"\ud800"}`, readOptions{}, nil, []string{"not UTF-8 at byte 0, line 1: \"text\" holds half of a surrogate pair"}},
		{"lone.jsonl", `{"text":"\ud800"}`, readOptions{encodingErrors: EncodingReplace}, []string{"\uFFFD"}, nil},
		{"nul.jsonl", "{\"text\":\"a\\u0000\"}\n{\"text\":\"b\"}", readOptions{}, []string{"b"}, []string{"NUL byte at byte 0, line 1"}},
		{"nul.txt", "a\nb\x00\n\nc", readOptions{}, []string{"c"}, []string{"NUL byte at byte 0, line 2"}},
		{"nul.txt", "a\x00\n\nc", readOptions{encodingErrors: EncodingReplace}, []string{"a\uFFFD", "c"}, nil},
		{"long.jsonl", "{\"text\":\"" + strings.Repeat("x", 200000) + "\"}\n{\"text\":\"b\"}\n", readOptions{maxDocumentBytes: 1000}, []string{"b"},
			[]string{"too long at byte 0, line 1: the line is larger than 1000 bytes"}},
		{"latin1.jsonl", "{\"text\":\"caf\xe9\"}\n{\"text\":\"b\"}\n", readOptions{}, []string{"b"}, []string{"not UTF-8 at byte 12, line 1: byte 0xe9"}},
		{"latin1.csv", "text\ncaf\xe9\nb\n", readOptions{}, []string{"b"}, []string{`not UTF-8 at byte 5, line 2: byte 0xe9 in the field "text"`}},
		{"latin1.csv", "text\ncaf\xe9\nb\n", readOptions{encodingErrors: EncodingReplace}, []string{"caf\uFFFD", "b"}, nil},
		{"few.csv", "a,text\n1,x\n2\n3,y,z\n4,w\n", readOptions{}, []string{"x", "w"},
			[]string{"bad CSV at byte 11, line 3: 1 fields, where the header has 2", "bad CSV at byte 13, line 4: 3 fields"}},
		{"quote.csv", "text\na\n\"b\nc\n", readOptions{}, []string{"a"}, []string{"bad CSV at byte 7, line 3: the quote of line 3 has no end"}},
		{"header.csv", "a;b\n1;2\n", readOptions{}, nil, []string{`no field at byte 0, line 1: "text" is not there, but "a;b"; the first line names the columns`}},
		{"twice.csv", "text,text\n1,2\n", readOptions{}, nil, []string{`bad CSV at byte 0, line 1: 2 columns are called "text"`}},
		{"long.csv", "id,text\n1," + strings.Repeat("x", 200000) + "\n2,b\n", readOptions{maxDocumentBytes: 1000}, []string{"b"},
			[]string{"too long at byte 8, line 2: the record is larger than 1000 bytes"}},
		{"plain.gz", "just text", readOptions{}, nil, []string{"not what its name says: its ending says gzip, and it is something else, perhaps plain text"}},
		{"gzip.jsonl", string(gz), readOptions{}, nil, []string{"not what its name says: it is to hold JSON lines, and it is gzip; name it gzip.jsonl.gz"}},
		{"x.txt", string(parquetFile), readOptions{}, nil, []string{"it is to hold plain text, and it is Parquet"}},
		{"x.parquet", "a,b\n1,2 and more", readOptions{}, nil, []string{"its ending says Parquet, and it is something else"}},
		{"x.parquet", "", readOptions{}, nil, []string{"truncated archive: 0 bytes are too few"}},
		{"x.parquet.gz", "", readOptions{}, nil, []string{"Parquet cannot be read from an archive"}},
		{"utf16.txt", "\xff\xfea\x00b\x00", readOptions{}, nil, []string{"it is UTF-16; convert it (iconv -f UTF-16 -t UTF-8)"}},
		{"empty.txt.xz", "", readOptions{}, nil, []string{"truncated archive at byte 0: the file is empty"}},
		{"long.txt.zst", string(golden(t, "long.txt.zst")), readOptions{}, nil, []string{"needs too much memory at byte 0, line 1: its window is larger than 128 MiB; compress it again without --long"}},
		{"x.parquet", string(parquetFile), readOptions{textField: "nothing"}, nil, []string{`no field: "nothing" is not there, but "id", "text"`}},
		{"x.parquet", string(parquetFile), readOptions{textField: "id"}, nil, []string{`not a string: the column "id" is of type INT`}},
		{"x.parquet", string(parquetFile), readOptions{textField: "list.list.element"}, nil, []string{`not a string: the column "list.list.element" is a list`}},
		{"empty.txt", "", readOptions{}, nil, nil},
		{"empty.jsonl", "", readOptions{}, nil, nil},
		{"empty.csv", "\n", readOptions{}, nil, nil},
	} {
		c.opts.textUnit = TextParagraph
		for how, reads := range readings {
			docs, bad := readAll(t, c.name, []byte(c.data), c.opts, reads)
			if !slices.Equal(texts(docs), c.docs) || len(bad) != len(c.said) {
				t.Errorf("%s read %s: %q, %v", c.name, how, texts(docs), bad)
				continue
			}
			for i, b := range bad {
				wantError(t, b, c.name, c.said[i])
			}
		}
	}
}

func TestBadRowsOfParquet(t *testing.T) {
	want := goldenJSON[[]string](t, "texts.json")
	data := golden(t, "snappy.parquet")
	docs, bad := readAll(t, "x.parquet", data, readOptions{textField: "nulls"}, readings["whole"])
	if len(docs)+len(bad) != len(want) || len(bad) != (len(want)+2)/3 || bad[1].Line != 4 || !bad[1].GoesOn || bad[1].Reason != ReasonNoField {
		t.Errorf("%d documents, %d nulls, %v", len(docs), len(bad), bad[1])
	}
	for _, d := range docs {
		if d.text != want[d.line-1] {
			t.Fatalf("row %d: %q", d.line, d.text)
		}
	}
	docs, bad = readAll(t, "x.parquet", data, readOptions{textField: "latin1"}, readings["whole"])
	if len(bad) != 1 || bad[0].Reason != ReasonNotUTF8 || bad[0].Line != 2 || len(docs) != len(want)-1 {
		t.Errorf("%v, %d documents", bad, len(docs))
	}
	docs, bad = readAll(t, "x.parquet", data, readOptions{textField: "latin1", encodingErrors: EncodingReplace}, readings["whole"])
	if len(bad) != 0 || docs[1].text != "caf\uFFFD" {
		t.Errorf("%v, %q", bad, docs[1].text)
	}
	docs, bad = readAll(t, "x.parquet", data, readOptions{maxDocumentBytes: 2000}, readings["whole"])
	if len(bad) != 1 || bad[0].Reason != ReasonTooLong || bad[0].Line != 10 || len(docs) != len(want)-1 {
		t.Errorf("%v, %d documents", bad, len(docs))
	}
}

// A source's hash is that of the file, however far it was read.
func TestDocReaderHash(t *testing.T) {
	for _, name := range []string{"ascii.jsonl", "two.jsonl.xz", "snappy.parquet"} {
		path := filepath.Join("testdata/readers", name)
		want, _, err := openHashCache(&PrepareConfig{}).hashFile(t.Context(), path, new(meter))
		if err != nil {
			t.Fatal(err)
		}
		for _, documents := range []int{0, 1, 1000} {
			d, err := openDocuments(path, 0, readOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for range documents {
				if _, err := d.next(); err != nil && err != io.EOF {
					t.Fatal(err)
				}
			}
			if got, err := d.sha256(); got != want || err != nil {
				t.Errorf("%s after %d documents: %s, %v", name, documents, got, err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	_, err := openDocuments(filepath.Join(t.TempDir(), "gone.jsonl"), 0, readOptions{})
	var bad *BadRecord
	if !errors.As(err, &bad) || bad.Reason != ReasonVanished || !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// An error of reading the file is none of a record's, so it is never skipped.
func TestReadError(t *testing.T) {
	broken := errors.New("the disk is broken")
	for _, name := range []string{"ascii.jsonl", "excel.csv", "two.jsonl.gz", "two.jsonl.zst", "two.jsonl.bz2", "two.jsonl.xz", "snappy.parquet"} {
		data := golden(t, name)
		for _, at := range []int{0, 100, len(data) / 2, len(data) - 10} {
			d := newDocReader(newBrokenFile(data, at, broken), name, 0, readOptions{})
			if _, bad, err := drain(d); !errors.Is(err, broken) || len(bad) > 0 || !strings.Contains(err.Error(), name) {
				t.Errorf("%s broken at %d: %v, %v", name, at, err, bad)
			}
		}
	}
}

// brokenFile cannot be read from a place on.
type brokenFile struct {
	sourceFile
	r   io.Reader
	at  int64
	err error
}

func newBrokenFile(data []byte, at int, err error) brokenFile {
	return brokenFile{newMemoryFile(data, readings["whole"]), io.MultiReader(bytes.NewReader(data[:at]), iotest.ErrReader(err)), int64(at), err}
}

func (f brokenFile) Read(b []byte) (int, error) { return f.r.Read(b) }

func (f brokenFile) ReadAt(b []byte, at int64) (int, error) {
	if at+int64(len(b)) > f.at {
		return 0, f.err
	}
	return f.sourceFile.ReadAt(b, at)
}
