package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/ulikunitz/xz"
)

// documents are those of the workspace in every format that data takes.
type documents []string

func (d documents) text() []byte { return []byte(strings.Join(d, "\n\n") + "\n") }

func (d documents) jsonLines(t *testing.T) []byte {
	var b bytes.Buffer
	for i, text := range d {
		if err := json.NewEncoder(&b).Encode(map[string]any{"id": i, "text": text, "meta": map[string]any{"body": text}}); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func (d documents) table(comma rune) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.Comma = comma
	w.Write([]string{"id", "text"})
	for i, text := range d {
		w.Write([]string{fmt.Sprint(i), text})
	}
	w.Flush()
	return b.Bytes()
}

func (d documents) parquet(t *testing.T) []byte {
	type row struct {
		Text string `parquet:"text,zstd"`
		ID   int    `parquet:"id"`
	}
	var b bytes.Buffer
	w := parquet.NewGenericWriter[row](&b, parquet.MaxRowsPerRowGroup(7))
	for i, text := range d {
		if _, err := w.Write([]row{{text, i}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// compressed is data as a compressor writes it.
func compressed(t *testing.T, data []byte, compressor func(io.Writer) (io.WriteCloser, error)) []byte {
	var b bytes.Buffer
	w, err := compressor(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asGzip(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }
func asZstd(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }
func asXZ(w io.Writer) (io.WriteCloser, error)   { return xz.NewWriter(w) }

// A model learns the same from the same documents, whatever holds them.
func TestFormatsGiveTheSameDocuments(t *testing.T) {
	w := newWorkspace(t)
	var docs documents
	for i := range 24 {
		docs = append(docs, fmt.Sprintf("the %d quick \"foxes\" jump,\nover the lazy dog and run %s away", i, strings.Repeat("far ", i%5)))
	}
	lines := docs.jsonLines(t)
	files := map[string][]byte{
		"a.txt": docs.text(), "a.jsonl": lines, "a.csv": docs.table(','), "a.tsv": docs.table('\t'), "a.parquet": docs.parquet(t),
		"a.txt.gz": compressed(t, docs.text(), asGzip), "a.jsonl.zst": compressed(t, lines, asZstd), "a.csv.xz": compressed(t, docs.table(','), asXZ),
		"a.json.gz": compressed(t, lines, asGzip),
	}
	w.write("train.yaml", w.config())
	shown := map[string][]string{}
	trained := map[string]string{}
	for name, data := range files {
		w.write(name, string(data))
		shown[name] = w.inspect("--samples", "24", "--set", "data="+w.path(name))
		if name != "a.txt" && name != "a.jsonl.zst" && name != "a.parquet" {
			continue
		}
		if _, err := oneRank(t, w.resolved("max_steps: 2", "data: "+w.path(name), "output_dir: "+w.path("runs/"+name)), nil); err != nil {
			t.Fatal(err)
		}
		weights, err := os.ReadFile(w.path("runs/" + name + "/model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		trained[name] = string(weights)
	}
	want := shown["a.txt"]
	if len(want) != len(docs) || !strings.Contains(strings.Join(want, "\n"), "dog and run") {
		t.Fatalf("%d samples of the text: %q", len(want), want)
	}
	for name, got := range shown {
		if !slices.Equal(got, want) {
			t.Errorf("%s has other samples:\n%s\nnot\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	for name, weights := range trained {
		if weights != trained["a.txt"] {
			t.Errorf("training on %s gives another model", name)
		}
	}
	if got := w.inspect("--samples", "24", "--set", "data="+w.path("a.jsonl"), "--set", "text_field=meta.body"); !slices.Equal(got, want) {
		t.Error("a field in a field has other samples")
	}
}

// What is wrong with a record is said with its place and the way out, before anything starts.
func TestBadRecordsAreRefused(t *testing.T) {
	w := newWorkspace(t)
	good := documents{"the quick brown fox", "a hen sat down"}.jsonLines(t)
	archive := compressed(t, good, asGzip)
	for name, c := range map[string]struct {
		data []byte
		said []string
	}{
		"field.jsonl": {[]byte(`{"content": "x"}`), []string{"field.jsonl", "no field at byte 0, line 1", `"content"`, "text_field"}},
		"cut.jsonl":   {good[:len(good)-10], []string{"cut.jsonl", "bad JSON", "line 2"}},
		"cut.json.gz": {archive[:len(archive)-6], []string{"cut.json.gz", "truncated archive at byte"}},
		"plain.gz":    {[]byte("text"), []string{"plain.gz", "its ending says gzip"}},
		"x.csv":       {[]byte("text,n\na,1,2\n"), []string{"x.csv", "line 2", "3 fields, where the header has 2"}},
		"x.parquet":   {[]byte("PAR1 and nothing else"), []string{"x.parquet", "truncated archive"}},
	} {
		w.write(name, string(c.data))
		before := w.tree()
		_, err := worker(w.resolved("data: "+w.path(name)), "check")
		w.wantRefused(before, err, c.said...)
	}
}
