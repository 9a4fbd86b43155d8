package hf

import (
	"bytes"
	"fmt"
	"os"
	"testing"
)

// What torch.save wrote in both of its formats reads as what safetensors wrote.
func TestTorchFiles(t *testing.T) {
	want, err := OpenSafetensors("testdata/torch/expected.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	for _, name := range []string{"zip.bin", "legacy.bin"} {
		got, err := openFile("testdata/torch/"+name, parseTorch)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		defer got.Close()
		if fmt.Sprint(got.Names()) != fmt.Sprint(want.Names()) {
			t.Errorf("%s: names %v, want %v", name, got.Names(), want.Names())
		}
		for _, key := range want.Names() {
			a, _ := got.Tensor(key)
			b, _ := want.Tensor(key)
			if a.DType != b.DType || fmt.Sprint(a.Shape) != fmt.Sprint(b.Shape) || !bytes.Equal(a.Data, b.Data) {
				t.Errorf("%s: %s is %+v, want %+v", name, key, a, b)
			}
		}
	}
	module, err := openFile("testdata/torch/module.bin", parseTorch)
	if err != nil {
		t.Fatal(err)
	}
	defer module.Close()
	if names := fmt.Sprint(module.Names()); names != "[bias weight]" {
		t.Errorf("module.bin has %s", names)
	}
}

// Every cut of a file is an error, and none a panic.
func TestTorchCutShort(t *testing.T) {
	for _, name := range []string{"zip.bin", "legacy.bin"} {
		file, err := os.ReadFile("testdata/torch/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(file) {
			if _, _, err := parseTorch(file[:n]); err == nil {
				t.Errorf("%s cut to %d of %d bytes is no error", name, n, len(file))
			}
		}
	}
}

// Views with sizes and strides that leave their storage are refused.
func TestTorchTensorBounds(t *testing.T) {
	s := &torchStorage{dtype: F32, elements: 6, data: make([]byte, 24)}
	for i := range s.data {
		s.data[i] = byte(i)
	}
	for _, c := range []struct {
		view torchTensor
		want string
	}{
		{torchTensor{offset: 0, size: []int64{6}, stride: []int64{1}}, ""},
		{torchTensor{offset: 0, size: []int64{3, 2}, stride: []int64{1, 3}}, ""},
		{torchTensor{offset: 6, size: []int64{0}, stride: []int64{1}}, ""},
		{torchTensor{offset: 5}, ""},
		{torchTensor{offset: 6}, "reaches element 6"},
		{torchTensor{offset: 1, size: []int64{6}, stride: []int64{1}}, "reaches element 6"},
		{torchTensor{offset: -1, size: []int64{1}, stride: []int64{1}}, "do not fit"},
		{torchTensor{size: []int64{2}, stride: []int64{-1}}, "reach beyond"},
		{torchTensor{size: []int64{-2}, stride: []int64{1}}, "negative"},
		{torchTensor{size: []int64{2, 2}, stride: []int64{1}}, "do not fit"},
		{torchTensor{size: []int64{1 << 40, 1 << 40}, stride: []int64{0, 0}}, "more elements"},
		{torchTensor{size: []int64{100}, stride: []int64{0}}, "expanded"},
		{torchTensor{size: []int64{3, 3}, stride: []int64{1 << 62, 1 << 62}}, "reach beyond"},
	} {
		c.view.storage = s
		budget := uint64(24)
		got, err := c.view.tensor("w", &budget)
		if c.want != "" {
			wantError(t, err, c.want)
		} else if err != nil || int64(len(got.Data)) != 4*got.Elements() {
			t.Errorf("%+v: %v", c.view, err)
		}
	}
	budget := uint64(25)
	view := &torchTensor{storage: s, size: []int64{3, 2}, stride: []int64{1, 3}}
	turned, err := view.tensor("w", &budget)
	want := []byte{0, 1, 2, 3, 12, 13, 14, 15, 4, 5, 6, 7, 16, 17, 18, 19, 8, 9, 10, 11, 20, 21, 22, 23}
	if err != nil || !bytes.Equal(turned.Data, want) {
		t.Errorf("transposed data are %v (%v)", turned.Data, err)
	}
	_, err = view.tensor("w", &budget) // a second copy does not fit
	wantError(t, err, "more memory")
}

func FuzzParseTorch(f *testing.F) {
	for _, name := range []string{"zip.bin", "legacy.bin", "module.bin"} {
		file, err := os.ReadFile("testdata/torch/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
	}
	f.Add([]byte(string(legacyMagic) + "\x80\x02}.\x80\x02}].\x80\x02]."))
	f.Fuzz(func(t *testing.T, file []byte) {
		tensors, _, err := parseTorch(file)
		if err != nil {
			return
		}
		for _, x := range tensors {
			if int64(len(x.Data)) != x.Elements()*x.DType.Size() {
				t.Fatalf("%s: %d bytes for %s %v", x.Name, len(x.Data), x.DType, x.Shape)
			}
		}
	})
}
