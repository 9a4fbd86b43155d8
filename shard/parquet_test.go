package shard

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"
)

var parquetFiles = []string{"snappy.parquet", "zstd-v2.parquet", "gzip-crc.parquet", "none.parquet", "brotli.parquet", "lz4.parquet",
	"delta_length_byte_array.parquet", "delta_byte_array.parquet"}

// A damaged file is no panic and no hang; a text may only be wrong where the file has no checksum.
func TestDamagedParquet(t *testing.T) {
	want := goldenJSON[[]string](t, "texts.json")
	step := 97
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
	p.check.limit = 1 << 10
	_, err := p.next()
	wantError(t, err, "x.parquet", "needs too much memory", "rows 1 to 312 are lost", "a page has")
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
