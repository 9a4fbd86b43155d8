package hf

import (
	"bytes"
	"os"
	"slices"
	"testing"
)

// oneTensor is a safetensors file that holds a tensor of one byte.
func oneTensor(name string, value byte) []byte {
	file := safetensorsOf(`{"`+name+`":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 0)
	return append(file, value)
}

func TestOpenOrder(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(dir)
	wantError(t, err, dir, safetensorsFile, torchFile)
	zip, err := os.ReadFile("testdata/torch/zip.bin")
	if err != nil {
		t.Fatal(err)
	}
	open := func(want string) {
		t.Helper()
		w, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if _, ok := w.Tensor(want); !ok {
			t.Errorf("opened %s with %v, want %s in it", w.Path, w.Names(), want)
		}
	}
	writeFile(t, dir, "other.bin", zip)
	writeFile(t, dir, torchIndex, indexOf(t, map[string]string{"f32": "other.bin"}))
	open("f32")
	writeFile(t, dir, torchFile, zip)
	open("scalar")
	writeFile(t, dir, "a.safetensors", oneTensor("a", 1))
	writeFile(t, dir, safetensorsIndex, indexOf(t, map[string]string{"a": "a.safetensors"}))
	open("a")
	writeFile(t, dir, safetensorsFile, oneTensor("single", 1))
	open("single")
}

func TestOpenSharded(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, "1.safetensors", oneTensor("a", 1))
	writeFile(t, dir, "sub/2.safetensors", oneTensor("b", 2))
	writeFile(t, dir, "3.safetensors", safetensorsOf(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},`+
		`"c":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"d":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, 3))
	writeFile(t, dir, safetensorsIndex, indexOf(t,
		map[string]string{"a": "1.safetensors", "b": "sub/2.safetensors", "c": "3.safetensors"}))
	w, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if a, ok := w.Tensor("a"); !ok || !bytes.Equal(a.Data, []byte{1}) {
		t.Errorf("a is %+v, not the one in the file that the index names", a)
	}
	if want := []string{"a", "b", "c", "d"}; !slices.Equal(w.Names(), want) {
		t.Errorf("names %v, want %v", w.Names(), want)
	}
	if b, ok := w.Tensor("b"); !ok || !bytes.Equal(b.Data, []byte{2}) {
		t.Errorf("b is %+v", b)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error("second Close:", err)
	}
	if _, ok := w.Tensor("a"); ok {
		t.Error("a closed Weights still has tensors")
	}
}
