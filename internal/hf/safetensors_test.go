package hf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"
)

// safetensorsOf is a file with this header and that many bytes of data.
func safetensorsOf(header string, bodyBytes int) []byte {
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(file, header...), make([]byte, bodyBytes)...)
}

func TestParseSafetensors(t *testing.T) {
	file := safetensorsOf(`{"b":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"__metadata__":{"format":"pt"},`+
		`"a":{"shape":[],"data_offsets":[8,10],"dtype":"BF16"},"none":{"dtype":"I64","shape":[0,3],"data_offsets":[10,10]}} `, 10)
	tensors, metadata, err := parseSafetensors(file)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, x := range tensors {
		got += fmt.Sprintf("%s %s %v %d; ", x.Name, x.DType, x.Shape, len(x.Data))
	}
	if want := "b F32 [2 1] 8; a BF16 [] 2; none I64 [0 3] 0; "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if metadata["format"] != "pt" || len(metadata) != 1 {
		t.Errorf("metadata %v", metadata)
	}
}

// Each lie in a header is an error that names the tensor and the lie.
func TestParseSafetensorsLies(t *testing.T) {
	one := func(dtype, shape, offsets string) string {
		return fmt.Sprintf(`{"w":{"dtype":"%s","shape":%s,"data_offsets":%s}}`, dtype, shape, offsets)
	}
	two := func(first, second string) string {
		return fmt.Sprintf(`{"a":{"dtype":"U8","shape":[4],"data_offsets":%s},"b":{"dtype":"U8","shape":[4],"data_offsets":%s}}`, first, second)
	}
	long := make([]byte, 64)
	binary.LittleEndian.PutUint64(long, maxHeaderBytes+1)
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "too short"},
		{"header over 100 MB", long, "100000000"},
		{"header over the file", append([]byte{200, 0, 0, 0, 0, 0, 0, 0}, "{}"...), "cut short"},
		{"header of 2^64-1", append(bytes.Repeat([]byte{255}, 8), "{}"...), "more than"},
		{"no header", safetensorsOf("", 8), "'{'"},
		{"padded in front", safetensorsOf("  {}", 0), "'{'"},
		{"cut JSON", safetensorsOf(`{"w":{"dtype"`, 0), "invalid JSON"},
		{"bad UTF-8", safetensorsOf("{\"\xff\":1}", 0), "UTF-8"},
		{"a name twice", safetensorsOf(`{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), `"w" occurs twice`},
		{"a name twice, escaped", safetensorsOf(`{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0077":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), `"w" occurs twice`},
		{"an entry's key twice", safetensorsOf(`{"w":{"dtype":"U8","dtype":"F32","shape":[1],"data_offsets":[0,1]}}`, 1), "dtype"},
		{"no shape", safetensorsOf(`{"w":{"dtype":"U8","Shape":[1],"data_offsets":[0,1]}}`, 1), "no shape"},
		{"another key", safetensorsOf(`{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}`, 1), "tensor w"},
		{"three offsets", safetensorsOf(one("U8", "[1]", "[0,1,1]"), 1), "two data_offsets"},
		{"one offset", safetensorsOf(one("U8", "[1]", "[0]"), 1), "two data_offsets"},
		{"negative offset", safetensorsOf(one("U8", "[1]", "[-1,0]"), 1), "data_offsets"},
		{"backwards", safetensorsOf(one("U8", "[1]", "[1,0]"), 1), "backwards"},
		{"beyond the file", safetensorsOf(one("U8", "[9]", "[0,9]"), 8), "cut short"},
		{"far beyond the file", safetensorsOf(one("U8", "[1]", "[18446744073709551614,18446744073709551615]"), 8), "cut short"},
		{"past uint64", safetensorsOf(one("U8", "[1]", "[0,18446744073709551616]"), 8), "data_offsets"},
		{"wrong size", safetensorsOf(one("F32", "[2]", "[0,4]"), 4), "takes 8 bytes"},
		{"wrong size of a half", safetensorsOf(one("F16", "[2]", "[0,8]"), 8), "takes 4 bytes"},
		{"unknown dtype", safetensorsOf(one("F33", "[2]", "[0,8]"), 8), `"F33"`},
		{"negative shape", safetensorsOf(one("F32", "[-1,-2]", "[0,8]"), 8), "negative"},
		{"overflowing shape", safetensorsOf(one("F32", "[4294967296,4294967296]", "[0,0]"), 0), "more elements"},
		{"overflowing size", safetensorsOf(one("F32", "[4611686018427387904]", "[0,0]"), 0), "more elements"},
		{"fractional shape", safetensorsOf(one("F32", "[1.5]", "[0,8]"), 8), "shape"},
		{"null shape", safetensorsOf(one("F32", "null", "[0,4]"), 4), "no shape"},
		{"overlap", safetensorsOf(two("[0,4]", "[2,6]"), 6), "overlaps tensor a"},
		{"same bytes twice", safetensorsOf(two("[0,4]", "[0,4]"), 4), "overlaps"},
		{"hole", safetensorsOf(two("[0,4]", "[5,9]"), 9), "hole"},
		{"hole in front", safetensorsOf(one("U8", "[1]", "[1,2]"), 2), "hole"},
		{"rest", safetensorsOf(one("U8", "[1]", "[0,1]"), 3), "2 bytes follow"},
		{"metadata of numbers", safetensorsOf(`{"__metadata__":{"a":1}}`, 0), "__metadata__"},
		{"long name", safetensorsOf(`{"`+strings.Repeat("w", 5000)+`":{}}`, 0), "5000 bytes long"},
		{"many dimensions", safetensorsOf(one("U8", "[1"+strings.Repeat(",1", 5000)+"]", "[0,1]"), 1), "bytes long"},
		{"entry is a list", safetensorsOf(`{"w":[]}`, 0), "tensor w"},
	} {
		_, _, err := parseSafetensors(c.file)
		if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 5000 {
			t.Errorf("%s: error %v does not say %q", c.name, err, c.want)
		}
	}
}

func FuzzParseSafetensors(f *testing.F) {
	f.Add(safetensorsOf(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8))
	f.Add(safetensorsOf(`{"__metadata__":{"a":"b"},"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}}`, 1))
	f.Add(safetensorsOf(`{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0))
	if file, err := os.ReadFile("testdata/torch/expected.safetensors"); err == nil {
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		tensors, _, err := parseSafetensors(file)
		if err != nil {
			return
		}
		for _, x := range tensors { // all that a caller may rely on
			if int64(len(x.Data)) != x.Elements()*x.DType.Size() {
				t.Fatalf("%s: %d bytes for %s %v", x.Name, len(x.Data), x.DType, x.Shape)
			}
			for _, b := range x.Data {
				_ = b
			}
		}
	})
}
