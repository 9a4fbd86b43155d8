package shard

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

func documentsOf(r io.Reader, unit TextUnit, errs EncodingErrors) ([]document, error) {
	var docs []document
	err := readSource(newSplitter(r, "x.txt", 0, unit, errs), func(d document) error {
		docs = append(docs, d)
		return nil
	})
	return docs, err
}

func TestSplit(t *testing.T) {
	tests := []struct {
		name string
		in   string
		unit TextUnit
		want []string
		at   []int64
	}{
		{"paragraphs", "one\ntwo\n\nthree\n", TextParagraph, []string{"one\ntwo", "three"}, []int64{0, 9}},
		{"lines", "one\ntwo\n\nthree", TextLine, []string{"one", "two", "three"}, []int64{0, 4, 9}},
		{"file", "\none\n\ntwo\n", TextFile, []string{"\none\n\ntwo"}, []int64{0}},
		{"blank file", "\n \n", TextFile, nil, nil},
		{"empty", "", TextParagraph, nil, nil},
		{"blank lines of spaces", "\n \t\n one\n\t\n\u00a0\ntwo", TextParagraph, []string{" one", "two"}, []int64{4, 14}},
		{"CRLF", "one\r\ntwo\r\n\r\nthree\r\n", TextParagraph, []string{"one\ntwo", "three"}, []int64{0, 12}},
		{"BOM", "\uFEFFone\n\uFEFFtwo", TextLine, []string{"one", "\uFEFFtwo"}, []int64{3, 7}},
		{"BOM and blank", "\uFEFF\n\none", TextParagraph, []string{"one"}, []int64{5}},
		{"NUL", "a\x00b\n\n\x00\n", TextParagraph, []string{"a\x00b", "\x00"}, []int64{0, 5}},
	}
	for _, test := range tests {
		docs, err := documentsOf(iotest.OneByteReader(strings.NewReader(test.in)), test.unit, EncodingStrict)
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		var at []int64
		for _, d := range docs {
			texts, at = append(texts, d.text), append(at, d.offset)
		}
		if !reflect.DeepEqual(texts, test.want) || !reflect.DeepEqual(at, test.at) {
			t.Errorf("%s: got %q at %d, want %q at %d", test.name, texts, at, test.want, test.at)
		}
	}
}

func TestSplitErrors(t *testing.T) {
	s := newSplitter(strings.NewReader("one\ntwo\n"+strings.Repeat("long ", 1<<18)), "x.txt", 0, TextParagraph, EncodingStrict)
	s.limit = 100000
	_, err := s.next()
	wantError(t, err, "x.txt", "byte 8", "larger than 100000 bytes")

	_, err = documentsOf(io.MultiReader(strings.NewReader("one\ntw"), iotest.ErrReader(io.ErrUnexpectedEOF)), TextLine, EncodingStrict)
	wantError(t, err, "x.txt", "byte 6", "unexpected EOF")

	docs, err := documentsOf(strings.NewReader("caf\xe9\r\nx\xe2\x82\n"), TextParagraph, EncodingReplace)
	if err != nil || docs[0].text != "caf\uFFFD\nx\uFFFD" || docs[0].bytes != 9 {
		t.Errorf("%+v, %v", docs, err)
	}
}

// Behind a bad record come the documents after it, and nothing of its own document.
func TestSplitGoesOn(t *testing.T) {
	long := strings.Repeat("long ", 1<<15) // more than the reader's buffer
	in := "one\n\ntwo\nb\xe4d\nrest \xff\n\nthree\n" + long + "\nrest\n\nfour"
	for unit, want := range map[TextUnit][]string{
		TextParagraph: {"one", "not UTF-8 at byte 10, line 4", "too long at byte 27, line 8", "four"},
		TextLine:      {"one", "two", "not UTF-8 at byte 10, line 4", "not UTF-8 at byte 18, line 5", "three", "too long at byte 27, line 8", "rest", "four"},
		TextFile:      {"not UTF-8 at byte 10, line 4"},
	} {
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(in), "halves": iotest.HalfReader(strings.NewReader(in))} {
			s := newSplitter(r, "x.txt", 0, unit, EncodingStrict)
			s.limit = 100000
			if got := textsOf(t, s); !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %s: %q, want %q", unit, name, got, want)
			}
		}
	}
	// A long line is not held: 200 MB pass through a buffer of 64 KiB.
	s := newSplitter(io.MultiReader(io.LimitReader(endless{}, 200<<20), strings.NewReader("\nend")), "x.txt", 0, TextLine, EncodingStrict)
	s.limit = 1 << 20
	if got := textsOf(t, s); !reflect.DeepEqual(got, []string{"too long at byte 0, line 1", "end"}) || cap(s.raw) > 2<<20 {
		t.Errorf("%q in a buffer of %d bytes", got, cap(s.raw))
	}
}

// endless is a line that does not end.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

// textsOf reads a source to its end: the texts, and in their places what is said of bad records.
func textsOf(t testing.TB, s documentStream) []string {
	t.Helper()
	var texts []string
	for {
		doc, err := s.next()
		var bad *BadRecord
		switch {
		case err == io.EOF:
			return texts
		case err == nil:
			texts = append(texts, doc.text)
		case errors.As(err, &bad):
			said := *bad
			said.Detail, said.Hint, said.Err = "", "", nil
			texts = append(texts, strings.TrimPrefix(said.Error(), "shard: "+bad.Path+": "))
			if !bad.GoesOn {
				if _, again := s.next(); again != err {
					t.Fatalf("%v comes after %v, which ended the source", again, err)
				}
				return append(texts, "(lost)")
			}
		default:
			t.Fatal(err)
		}
	}
}

func TestSentences(t *testing.T) {
	text := "One here.  And two.\n \nthree"
	segment := func(text string) []string { return strings.SplitAfter(text, ".") }
	for unit, want := range map[SentenceUnit][]string{
		SentenceNone: {text},
		SentenceLine: {"One here.  And two.", "three"},
		SentenceAuto: {"One here.", "  And two.", "\n \nthree"},
	} {
		if got := sentences(text, unit, segment); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q, want %q", unit, got, want)
		}
	}
}

// checkSplit holds a split to what it promises for any input: documents lie where
// they say, in order, with the text that is there, and what lies between them is
// blank.
func checkSplit(t *testing.T, in []byte, unit TextUnit) {
	t.Helper()
	docs, err := documentsOf(bytes.NewReader(in), unit, EncodingReplace)
	if err != nil {
		t.Fatal(err)
	}
	blank := func(b []byte) bool {
		b = bytes.TrimPrefix(b, []byte("\uFEFF"))
		return unit == TextFile || len(bytes.TrimSpace(b)) == 0
	}
	at := int64(0)
	for _, d := range docs {
		if d.offset < at || d.offset+d.bytes > int64(len(in)) {
			t.Fatalf("document at %d of %d bytes, after %d, of %d", d.offset, d.bytes, at, len(in))
		}
		if !blank(in[at:d.offset]) {
			t.Fatalf("text lost before %d: %q", d.offset, in[at:d.offset])
		}
		want, _ := appendReplaced(nil, in[d.offset:d.offset+d.bytes])
		if got := strings.ReplaceAll(string(want), "\r\n", "\n"); got != d.text {
			t.Fatalf("%s: %q should be %q", unit, d.text, got)
		}
		if !utf8.ValidString(d.text) || strings.TrimSpace(d.text) == "" || unit == TextLine && strings.Contains(d.text, "\n") {
			t.Fatalf("%s: %q", unit, d.text)
		}
		at = d.offset + d.bytes
	}
	if !blank(in[at:]) {
		t.Fatalf("text lost at the end: %q", in[at:])
	}
	if _, err := documentsOf(bytes.NewReader(in), unit, EncodingStrict); (err == nil) != utf8.Valid(in) {
		t.Fatalf("strict: %v for %q", err, in)
	}
}

func TestSplitAnything(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		in := randomBytes(r, r.IntN(40))
		for i := range in {
			if r.IntN(3) == 0 {
				in[i] = "\n\n\r \t"[r.IntN(5)]
			}
		}
		for _, unit := range []TextUnit{TextFile, TextParagraph, TextLine} {
			checkSplit(t, in, unit)
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, seed := range []string{"one\ntwo\n\nthree\n", "\uFEFFa\r\n\r\nb", "\x00\n\xff\n", "a\xe2\x82\n\nb", "\r\r\n\n\r"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, unit := range []TextUnit{TextFile, TextParagraph, TextLine} {
			checkSplit(t, in, unit)
		}
	})
}
