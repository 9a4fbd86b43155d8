package shard

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/ulikunitz/xz"
)

// benchmarkTexts are some 16 MiB of documents of about 2 kB: words drawn as often as they come in a book, so that they compress as
// texts do.
func benchmarkTexts(b *testing.B) (texts []string, bytes int64) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	book, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "src/testdata/Isaac.Newton-Opticks.txt"))
	if err != nil {
		b.Skip("this installation of Go has no Opticks: ", err)
	}
	words := strings.Fields(string(book))
	r := rand.New(rand.NewPCG(1, 2))
	for bytes < 16<<20 {
		var text strings.Builder
		for text.Len() < 2000 {
			for range 12 {
				text.WriteString(words[r.IntN(len(words))] + " ")
			}
			text.WriteString("\n")
		}
		texts = append(texts, text.String())
		bytes += int64(text.Len())
	}
	return texts, bytes
}

// BenchmarkReaders reads a corpus of each format from memory; MB/s are of the documents' text.
func BenchmarkReaders(b *testing.B) {
	texts, size := benchmarkTexts(b)
	plain := strings.Join(texts, "\n")
	var lines, table, tabs bytes.Buffer
	encoder := json.NewEncoder(&lines)
	comma, tab := csv.NewWriter(&table), csv.NewWriter(&tabs)
	tab.Comma = '\t'
	comma.Write([]string{"id", "text"})
	tab.Write([]string{"id", "text"})
	for i, text := range texts {
		encoder.Encode(map[string]any{"id": i, "url": "https://example.org/", "meta": map[string]any{"score": 0.5, "tags": []string{"a", "b"}}, "text": text})
		comma.Write([]string{fmt.Sprint(i), text})
		tab.Write([]string{fmt.Sprint(i), text})
	}
	comma.Flush()
	tab.Flush()
	files := map[string][]byte{
		"x.txt": []byte(plain), "x.jsonl": lines.Bytes(), "x.csv": table.Bytes(), "x.tsv": tabs.Bytes(),
		"x.jsonl.gz":  packed(b, lines.Bytes(), func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }),
		"x.jsonl.zst": packed(b, lines.Bytes(), func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }),
		"x.jsonl.xz":  packed(b, lines.Bytes(), func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }),
	}
	if bz2, err := exec.LookPath("bzip2"); err == nil {
		cmd := exec.Command(bz2, "-c")
		cmd.Stdin = bytes.NewReader(lines.Bytes())
		if files["x.jsonl.bz2"], err = cmd.Output(); err != nil {
			b.Fatal(err)
		}
	}
	for name, codec := range map[string]compress.Codec{"snappy": &parquet.Snappy, "zstd": &parquet.Zstd, "gzip": &parquet.Gzip} {
		files[name+".parquet"] = benchmarkParquet(b, texts, codec)
	}
	for _, name := range []string{"x.txt", "x.jsonl", "x.csv", "x.tsv", "x.jsonl.gz", "x.jsonl.zst", "x.jsonl.bz2", "x.jsonl.xz",
		"snappy.parquet", "zstd.parquet", "gzip.parquet"} {
		data, ok := files[name]
		if !ok {
			continue
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				d := newDocReader(newMemoryFile(data, readings["whole"]), name, 0, readOptions{textUnit: TextParagraph})
				docs := 0
				for {
					_, err := d.next()
					if err == io.EOF {
						break
					}
					if err != nil {
						b.Fatal(err)
					}
					docs++
				}
				if docs != len(texts) {
					b.Fatalf("%d documents of %d", docs, len(texts))
				}
				if _, err := d.sha256(); err != nil {
					b.Fatal(err)
				}
				d.Close()
			}
		})
	}
}

func packed(b *testing.B, data []byte, compressor func(io.Writer) (io.WriteCloser, error)) []byte {
	var out bytes.Buffer
	w, err := compressor(&out)
	if err != nil {
		b.Fatal(err)
	}
	w.Write(data)
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

func benchmarkParquet(b *testing.B, texts []string, codec compress.Codec) []byte {
	type row struct {
		ID   int64  `parquet:"id"`
		Text string `parquet:"text"`
	}
	var out bytes.Buffer
	w := parquet.NewGenericWriter[row](&out, parquet.Compression(codec), parquet.PageBufferSize(1<<20))
	rows := make([]row, len(texts))
	for i, text := range texts {
		rows[i] = row{int64(i), text}
	}
	if _, err := w.Write(rows); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}
