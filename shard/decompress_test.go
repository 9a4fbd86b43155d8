package shard

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

var archives = []string{"two.jsonl.gz", "two.jsonl.zst", "two.jsonl.bz2", "two.jsonl.xz"}

// An archive that is cut anywhere is named, with what was read before.
func TestTruncatedArchives(t *testing.T) {
	want := goldenJSON[[]string](t, "texts.json")
	for _, name := range append(slices.Clone(archives), "excel.csv.gz") {
		data := golden(t, name)
		step := 61
		if os.Getenv("DDPRUN_TEST_ALL") != "" {
			step = 1
		}
		for n := 0; n < len(data); n += step {
			docs, bad := readAll(t, name, data[:n], readOptions{}, readings["whole"])
			if len(docs) > len(want) || !slices.Equal(texts(docs), want[:len(docs)]) {
				t.Fatalf("%s cut at %d: documents that are not there", name, n)
			}
			// Behind zstd's first frame, which is one to skip, the file is whole as far as it says. Other ends cut a line.
			if len(bad) == 0 && len(docs) < len(want) && !(name == "two.jsonl.zst" && n == 13) {
				t.Fatalf("%s cut at %d of %d: %d documents of %d and not a word", name, n, len(data), len(docs), len(want))
			}
		}
	}
}

// What was read before the damage is whole; the damage is named with the byte after decompression.
func TestDamageIsNamed(t *testing.T) {
	want := goldenJSON[[]string](t, "texts.json")
	lines := int64(len(golden(t, "ascii.jsonl")))
	for _, name := range archives {
		data := golden(t, name)
		docs, bad := readAll(t, name, data[:len(data)-9], readOptions{}, readings["whole"])
		last := bad[len(bad)-1]
		if len(bad) != 1 || last.Reason != ReasonTruncated || last.GoesOn || last.Offset < lines/2-1000 || last.Offset > lines || last.Line < 2 || len(docs) < len(want)/3 {
			t.Errorf("%s: %d documents, %v", name, len(docs), bad)
		}
	}
	// A checksum that does not fit is found at the end of its member.
	gz := golden(t, "padded.jsonl.gz")
	gz[len(gz)-512-8] ^= 1
	docs, bad := readAll(t, "x.jsonl.gz", gz, readOptions{}, readings["whole"])
	if len(docs) < len(want)-1 || len(bad) != 1 || bad[0].Reason != ReasonCorrupt || bad[0].Offset != lines {
		t.Errorf("%d documents, %v", len(docs), bad)
	}
}

// The same with bytes flipped all over: no panic, no hang, and what has a checksum is never whole with another text.
func TestFlippedArchives(t *testing.T) {
	want := goldenJSON[[]string](t, "texts.json")
	for _, name := range archives {
		data := golden(t, name)
		for at := 0; at < len(data); at += 127 {
			flipped := bytes.Clone(data)
			flipped[at] ^= 1 << (at % 8)
			docs, bad := readAll(t, name, flipped, readOptions{}, readings["whole"])
			if len(bad) == 0 && !slices.Equal(texts(docs), want) {
				t.Fatalf("%s with byte %d changed: %d documents, and not a word", name, at, len(docs))
			}
		}
	}
}

// A bomb passes through: memory is that of a line.
func TestBomb(t *testing.T) {
	var gz, zst bytes.Buffer
	w := gzip.NewWriter(&gz)
	io.CopyN(w, endless{}, 100<<20)
	w.Close()
	z, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	io.CopyN(z, endless{}, 100<<20)
	z.Close()
	for name, data := range map[string][]byte{"x.txt.gz": gz.Bytes(), "x.txt.zst": zst.Bytes()} {
		d := newDocReader(newMemoryFile(data, readings["whole"]), name, 0, readOptions{textUnit: TextLine, maxDocumentBytes: 1 << 20})
		docs, bad, err := drain(d)
		if len(docs) > 0 || len(bad) != 1 || bad[0].Reason != ReasonTooLong || err != nil {
			t.Errorf("%s: %d documents, %v, %v", name, len(docs), bad, err)
		}
		if held := cap(d.stream.(*splitter).raw); held > 3<<20 {
			t.Errorf("%s: %d bytes are held", name, held)
		}
		d.Close()
	}
}

// A dictionary of more than 128 MiB is refused before it is made.
func TestXZWindow(t *testing.T) {
	for size, ok := range map[int]bool{64 << 20: true, 128 << 20: true, 192 << 20: false} {
		var b bytes.Buffer
		w, err := xz.WriterConfig{DictCap: size, BufSize: 1 << 16}.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(w, strings.NewReader("one\n"))
		w.Close()
		docs, bad := readAll(t, "x.txt.xz", b.Bytes(), readOptions{textUnit: TextLine}, readings["whole"])
		if ok != (len(docs) == 1) || ok != (len(bad) == 0) || !ok && bad[0].Reason != ReasonTooMuch {
			t.Errorf("%d MiB: %v, %v", size>>20, docs, bad)
		}
	}
}

// checkSame reads once more in other ways: the same documents and the same bad records.
func checkSame(t *testing.T, name string, in []byte, opts readOptions, docs []document, bad []*BadRecord) {
	t.Helper()
	for how, reads := range readings {
		docs2, bad2 := readAll(t, name, in, opts, reads)
		if !slices.Equal(docs, docs2) || len(bad) != len(bad2) {
			t.Fatalf("%s read %s: %d documents and %v, not %d and %v", name, how, len(docs2), bad2, len(docs), bad)
		}
		for i := range bad {
			if bad[i].Error() != bad2[i].Error() {
				t.Fatalf("%s read %s: %v, not %v", name, how, bad2[i], bad[i])
			}
		}
	}
}

// FuzzSource: any bytes under any name give the same however they are read, and end. What they give is text.
func FuzzSource(f *testing.F) {
	names := []string{"x.txt", "x.jsonl", "x.csv", "x.tsv", "x.txt.gz", "x.jsonl.zst", "x.csv.bz2", "x.jsonl.xz"}
	for i, name := range []string{"long.txt.zst", "excel.csv.gz", "two.jsonl.zst", "two.jsonl.bz2", "two.jsonl.xz", "two.jsonl.gz", "csv.json", "json.json"} {
		f.Add(byte(i), golden(f, name))
	}
	f.Add(byte(4), []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"))
	f.Add(byte(5), []byte("\x28\xb5\x2f\xfd\x04\x00\x21\x00\x00abcd\x8b\x19\xd3\xe9"))
	f.Fuzz(func(t *testing.T, which byte, in []byte) {
		name := names[int(which)%len(names)]
		opts := readOptions{textUnit: TextParagraph, maxDocumentBytes: 1 << 16}
		docs, bad := readAll(t, name, in, opts, readings["whole"])
		checkSame(t, name, in, opts, docs, bad)
		for _, d := range docs {
			if !strings.EqualFold(d.text, strings.ToValidUTF8(d.text, "")) || strings.Contains(d.text, "\x00") || len(d.text) > 1<<16 {
				t.Fatalf("%s: %q", name, d.text)
			}
		}
	})
}
