package hf

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"unicode/utf8"
)

// WriteSafetensors writes tensors to path, byte for byte as Python's
// safetensors.torch.save_file does: largest element type first, then by name. For
// models, transformers wants the metadata {"format": "pt"}. The file is synced; it
// is created or cut to nothing first, so a caller that needs all or nothing gives
// a temporary path and renames.
func WriteSafetensors(path string, tensors []Tensor, metadata map[string]string) error {
	sorted, err := layOut(tensors)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if err := writeSafetensors(f, sorted, metadata); err != nil {
		f.Close()
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return f.Close()
}

// layOut checks the tensors and sorts them as the safetensors crate does, so that
// each is aligned to its element size.
func layOut(tensors []Tensor) ([]Tensor, error) {
	names := make(map[string]bool, len(tensors))
	for _, t := range tensors {
		want, err := tensorBytes(t.DType, t.Shape)
		switch {
		case err != nil:
			return nil, fmt.Errorf("tensor %s: %w", t.Name, err)
		case uint64(len(t.Data)) != want:
			return nil, fmt.Errorf("tensor %s: %s %v takes %d bytes, given are %d", t.Name, t.DType, t.Shape, want, len(t.Data))
		case names[t.Name]:
			return nil, fmt.Errorf("tensor %s: given twice", t.Name)
		case t.Name == metadataKey || !utf8.ValidString(t.Name):
			return nil, fmt.Errorf("tensor %q: not a name that safetensors allows", t.Name)
		}
		names[t.Name] = true
	}
	return slices.SortedFunc(slices.Values(tensors), func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(b.DType.order(), a.DType.order()), cmp.Compare(a.Name, b.Name))
	}), nil
}

func writeSafetensors(f io.Writer, sorted []Tensor, metadata map[string]string) error {
	header := safetensorsHeader(sorted, metadata)
	if len(header) > maxHeaderBytes {
		return fmt.Errorf("its header would have %d bytes, more than the %d that safetensors allows", len(header), maxHeaderBytes)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))) // bufio keeps the first error for Flush
	w.Write(header)
	for _, t := range sorted {
		w.Write(t.Data)
	}
	return w.Flush()
}

// safetensorsHeader is the JSON header, padded with spaces to 8 bytes.
func safetensorsHeader(sorted []Tensor, metadata map[string]string) []byte {
	var b bytes.Buffer
	separator := byte('{')
	if len(metadata) > 0 {
		b.WriteString(`{"` + metadataKey + `":`)
		for _, key := range slices.Sorted(maps.Keys(metadata)) {
			b.WriteByte(separator)
			b.Write(quote(key))
			b.WriteByte(':')
			b.Write(quote(metadata[key]))
			separator = ','
		}
		b.WriteByte('}')
		separator = ','
	}
	at := 0
	for _, t := range sorted {
		b.WriteByte(separator)
		b.Write(quote(t.Name))
		fmt.Fprintf(&b, `:{"dtype":"%s","shape":[`, t.DType)
		for i, d := range t.Shape {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(strconv.FormatInt(d, 10))
		}
		fmt.Fprintf(&b, `],"data_offsets":[%d,%d]}`, at, at+len(t.Data))
		at += len(t.Data)
		separator = ','
	}
	if separator == '{' {
		b.WriteByte('{')
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	return b.Bytes()
}
