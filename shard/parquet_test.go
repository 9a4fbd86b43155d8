package shard

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/encoding"
)

var parquetFiles = []string{"snappy.parquet", "zstd-v2.parquet", "gzip-crc.parquet", "none.parquet", "brotli.parquet", "lz4.parquet",
	"delta_length_byte_array.parquet", "delta_byte_array.parquet"}

// A damaged file is no panic and no hang; a text may only be wrong where the file has no checksum.
func TestDamagedParquet(t *testing.T) {
	want := goldenJSON[[]string](t, "texts.json")
	step := 211
	if os.Getenv("DDPRUN_TEST_ALL") != "" {
		step = 1
	}
	for _, name := range parquetFiles {
		data := golden(t, name)
		for at := 0; at < len(data); at += step {
			docs, bad := readAll(t, "x.parquet", data[:at], readOptions{}, readings["whole"])
			if len(docs) > 0 || len(bad) != 1 || bad[0].GoesOn || bad[0].Reason != ReasonTruncated {
				t.Fatalf("%s cut at %d: %d documents, %v", name, at, len(docs), bad)
			}
			flipped := bytes.Clone(data)
			flipped[at] ^= 1 << (at % 8)
			docs, bad = readAll(t, "x.parquet", flipped, readOptions{}, readings["whole"])
			if name == "gzip-crc.parquet" && len(bad) == 0 && !slices.Equal(texts(docs), want) && len(docs) == len(want) {
				t.Fatalf("%s with byte %d changed: other documents, and not a word", name, at)
			}
		}
	}
}

// Behind a damaged page comes the next row group.
func TestParquetGoesOn(t *testing.T) {
	want := goldenJSON[[]string](t, "texts.json")
	data := golden(t, "gzip-crc.parquet") // row groups of 150
	file, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	chunk := file.Metadata().RowGroups[1].Columns[1].MetaData
	data[chunk.DictionaryPageOffset+chunk.TotalCompressedSize/2] ^= 0x10
	docs, bad := readAll(t, "x.parquet", data, readOptions{}, readings["whole"])
	if len(bad) != 1 || bad[0].Reason != ReasonBadParquet || !bad[0].GoesOn || bad[0].Line < 151 || bad[0].Line > 300 {
		t.Fatalf("%v", bad)
	}
	wantError(t, bad[0], "bad Parquet in row", "to 300 are lost")
	for _, d := range docs {
		if d.text != want[d.line-1] || d.line >= bad[0].Line && d.line <= 300 {
			t.Fatalf("row %d is %q", d.line, d.text)
		}
	}
	if last := docs[len(docs)-1]; last.line != int64(len(want)) {
		t.Errorf("the last row is %d", last.line)
	}
}

// A page that is larger than a bound is refused before memory is taken for it.
func TestParquetPageBound(t *testing.T) {
	data := golden(t, "none.parquet")
	p := newParquetReader(bytes.NewReader(data), int64(len(data)), "x.parquet", 0, "text", EncodingStrict)
	p.pages.limit = 1 << 10
	_, err := p.next()
	wantError(t, err, "x.parquet", "needs too much memory", "rows 1 to 312 are lost", "a page has")
}

// What parquet-go writes is read as it was: every encoding, codec and version of pages, with and without nulls, in pages of few rows
// and of many.
func TestParquetWritten(t *testing.T) {
	type row struct {
		Plain      *string `parquet:"plain,optional"`
		Dict       *string `parquet:"dict,optional"`
		Delta      string  `parquet:"delta"`
		DeltaNull  *string `parquet:"deltanull,optional"`
		Lengths    string  `parquet:"lengths"`
		LengthNull *string `parquet:"lengthnull,optional"`
	}
	as := func(e encoding.Encoding) parquet.Node { return parquet.Encoded(parquet.String(), e) }
	schema := parquet.NewSchema("rows", parquet.Group{
		"plain": parquet.Optional(as(&parquet.Plain)), "dict": parquet.Optional(as(&parquet.RLEDictionary)),
		"delta": as(&parquet.DeltaByteArray), "deltanull": parquet.Optional(as(&parquet.DeltaByteArray)),
		"lengths": as(&parquet.DeltaLengthByteArray), "lengthnull": parquet.Optional(as(&parquet.DeltaLengthByteArray)),
	})
	r := rand.New(rand.NewPCG(9, 10))
	for n, codec := range []compress.Codec{&parquet.Uncompressed, &parquet.Snappy, &parquet.Gzip, &parquet.Brotli, &parquet.Zstd, &parquet.Lz4Raw} {
		for _, version := range []int{1, 2} {
			rows := make([]row, r.IntN(3000))
			want := map[string][]*string{}
			for i := range rows {
				text := func(words int) *string {
					s := strings.Repeat("same beginning ", r.IntN(3)) + strings.Repeat("word ", r.IntN(30)) + fmt.Sprint(r.IntN(words))
					return &s
				}
				some := func(s *string) *string {
					if i/100%3 == 0 || r.IntN(5) == 0 {
						return nil
					}
					return s
				}
				delta, lengths := text(1000), text(1000)
				rows[i] = row{some(text(1000)), some(text(1 + r.IntN(20))), *delta, some(text(1000)), *lengths, some(text(1000))}
				for name, s := range map[string]*string{"plain": rows[i].Plain, "dict": rows[i].Dict, "delta": delta, "deltanull": rows[i].DeltaNull,
					"lengths": lengths, "lengthnull": rows[i].LengthNull} {
					want[name] = append(want[name], s)
				}
			}
			var b bytes.Buffer
			w := parquet.NewGenericWriter[row](&b, schema, parquet.Compression(codec), parquet.DataPageVersion(version), parquet.PageBufferSize(500<<r.IntN(8)),
				parquet.MaxRowsPerRowGroup(int64(100+r.IntN(2000))))
			if _, err := w.Write(rows); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			for field, values := range want {
				docs, bad := readAll(t, "x.parquet", b.Bytes(), readOptions{textField: field}, readings["whole"])
				for i, value := range values {
					switch {
					case value == nil && len(bad) > 0 && bad[0].Reason == ReasonNoField && bad[0].Line == int64(i+1):
						bad = bad[1:]
					case value != nil && len(docs) > 0 && docs[0].text == *value && docs[0].line == int64(i+1):
						docs = docs[1:]
					default:
						t.Fatalf("codec %d, version %d, %s: row %d of %d is another", n, version, field, i+1, len(values))
					}
				}
				if len(docs)+len(bad) > 0 {
					t.Fatalf("codec %d, version %d, %s: %d rows more, %v", n, version, field, len(docs), bad)
				}
			}
		}
	}
}

// FuzzParquet: no panic, no hang, no text that is not UTF-8.
func FuzzParquet(f *testing.F) {
	for _, name := range append(slices.Clone(parquetFiles), "empty.parquet") {
		f.Add(golden(f, name))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		opts := readOptions{maxDocumentBytes: 1 << 16}
		docs, bad := readAll(t, "x.parquet", in, opts, readings["whole"])
		checkSame(t, "x.parquet", in, opts, docs, bad)
	})
}
