package hf

import (
	"bytes"
	"fmt"
	"os"
	"strings"
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

func TestTorchHostile(t *testing.T) {
	file, err := os.ReadFile("testdata/torch/legacy.bin")
	if err != nil {
		t.Fatal(err)
	}
	prefix := string(legacyMagic) + "\x80\x02}." // then the state
	for _, c := range []struct{ name, file, want string }{
		{"not torch", "hello", "not what torch.save writes"},
		{"runs a command", prefix + "\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.", "posix.system"},
		{"runs eval", prefix + "\x80\x02cbuiltins\neval\n.", "builtins.eval"},
		{"8-byte length", prefix + "\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "0x8e"},
		{"frame", prefix + "\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "0x95"},
		{"string of 4 GB", prefix + "\x80\x02X\xff\xff\xff\xff.", "cut short"},
		{"empty stack", prefix + "\x80\x02R.", "malformed"},
		{"unhashable key", prefix + "\x80\x02ccollections\nOrderedDict\n)R]]s.", ""},
		{"marks", prefix + "\x80\x02" + strings.Repeat("(", 100) + ".", "marks"},
		{"unbalanced", prefix + "\x80\x02t.", "marks"},
		{"contains itself", prefix + "\x80\x02]q\x00h\x00a." + "\x80\x02].", "does not hold a dict"},
		{"key that contains itself", prefix + "\x80\x02}]q\x00h\x00ah\x00s." + "\x80\x02].", "is not a tensor"},
		{"number for a state", prefix + "\x80\x02K\x01." + "\x80\x02].", "does not hold a dict"},
		{"entry is a number", prefix + "\x80\x02}X\x01\x00\x00\x00aK\x01s." + "\x80\x02].", `"a" is not a tensor`},
		{"storage too small", strings.Replace(string(file), "K\x03K\x05\x86", "K\x7fK\x05\x86", 1), "f32"},
		{"storage key without tensor", prefix + "\x80\x02}." + "\x80\x02]X\x01\x00\x00\x00aa.", `"a"`},
	} {
		_, _, err := parseTorch([]byte(c.file))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "save_file") {
			t.Errorf("%s: error %v does not say %q and how to convert", c.name, err, c.want)
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
		got, err := c.view.tensor("w")
		if c.want != "" {
			wantError(t, err, c.want)
		} else if err != nil || int64(len(got.Data)) != 4*got.Elements() {
			t.Errorf("%+v: %v", c.view, err)
		}
	}
	turned, err := (&torchTensor{storage: s, size: []int64{3, 2}, stride: []int64{1, 3}}).tensor("w")
	want := []byte{0, 1, 2, 3, 12, 13, 14, 15, 4, 5, 6, 7, 16, 17, 18, 19, 8, 9, 10, 11, 20, 21, 22, 23}
	if err != nil || !bytes.Equal(turned.Data, want) {
		t.Errorf("transposed data are %v (%v)", turned.Data, err)
	}
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
