package hf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteSafetensorsRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	tensors := []Tensor{
		{Name: "z", DType: BF16, Shape: []int64{2}, Data: []byte{1, 2, 3, 4}},
		{Name: "b\"<\u00e9", DType: F32, Shape: []int64{1, 2}, Data: []byte{1, 2, 3, 4, 5, 6, 7, 8}},
		{Name: "a", DType: F32, Data: []byte{9, 9, 9, 9}},
		{Name: "n", DType: I64, Shape: []int64{0}, Data: nil},
		{Name: "flags", DType: BOOL, Shape: []int64{3}, Data: []byte{0, 1, 0}},
	}
	if err := WriteSafetensors(path, tensors, map[string]string{"format": "pt"}); err != nil {
		t.Fatal(err)
	}
	w, err := OpenSafetensors(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, want := range tensors {
		got, ok := w.Tensor(want.Name)
		if !ok || got.DType != want.DType || fmt.Sprint(got.Shape) != fmt.Sprint(want.Shape) || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("%q came back as %+v", want.Name, got)
		}
	}
	if w.Metadata["format"] != "pt" {
		t.Errorf("metadata %v", w.Metadata)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := binary.LittleEndian.Uint64(file); n%8 != 0 {
		t.Errorf("a header of %d bytes leaves the data unaligned", n)
	}
}

// What Python's safetensors wrote is written again byte for byte.
func TestWriteSafetensorsEqualsPython(t *testing.T) {
	const fixture = "testdata/torch/expected.safetensors"
	w, err := OpenSafetensors(fixture)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var tensors []Tensor
	for _, name := range w.Names() {
		tensor, _ := w.Tensor(name)
		tensors = append(tensors, tensor)
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := WriteSafetensors(path, tensors, w.Metadata); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(fixture)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("wrote\n%q\nPython wrote\n%q", got, want)
	}
}

func TestWriteSafetensorsErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	for _, c := range []struct {
		tensors []Tensor
		want    string
	}{
		{[]Tensor{{Name: "w", DType: F32, Shape: []int64{2}, Data: make([]byte, 4)}}, "tensor w: F32 [2] takes 8 bytes"},
		{[]Tensor{{Name: "w", DType: U8}, {Name: "w", DType: U8}}, "tensor w"},
		{[]Tensor{{Name: "w", DType: U8, Data: []byte{1}}, {Name: "w", DType: U8, Data: []byte{1}}}, "twice"},
		{[]Tensor{{Name: metadataKey, DType: U8, Data: []byte{1}}}, "not a name"},
		{[]Tensor{{Name: "\xff", DType: U8, Data: []byte{1}}}, "not a name"},
		{[]Tensor{{Name: "w", DType: "X", Data: []byte{1}}}, `"X"`},
		{[]Tensor{{Name: "w", DType: U8, Shape: []int64{-1}}}, "negative"},
	} {
		wantError(t, WriteSafetensors(path, c.tensors, nil), path, c.want)
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: a file was written", c.want)
		}
	}
	wantError(t, WriteSafetensors(filepath.Join(path, "absent", "x"), nil, nil), "absent")
	wantError(t, WriteSafetensors("/dev/full", []Tensor{{Name: "w", DType: U8, Data: []byte{1}}}, nil), "/dev/full", "no space")
}
