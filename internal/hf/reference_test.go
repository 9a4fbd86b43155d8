package hf

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// python runs a script with the Python that DDPRUN_REFERENCE_PYTHON names, in dir,
// and returns what it prints.
func python(t *testing.T, dir, script string, args ...string) string {
	t.Helper()
	interpreter := os.Getenv("DDPRUN_REFERENCE_PYTHON")
	if interpreter == "" {
		t.Skip("DDPRUN_REFERENCE_PYTHON does not name a Python with torch, transformers and safetensors")
	}
	cmd := exec.Command(interpreter, append([]string{"-c", script}, args...)...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr.Bytes())
	}
	return string(out)
}

// Python reads what Go wrote, value for value, and writes the same bytes.
func TestReferenceSafetensors(t *testing.T) {
	dir := t.TempDir()
	values := make([]float32, 24)
	data := make([]byte, 0, 96)
	for i := range values {
		values[i] = float32(rand.NormFloat64())
		bits := math.Float32bits(values[i])
		data = append(data, byte(bits), byte(bits>>8), byte(bits>>16), byte(bits>>24))
	}
	tensors := []Tensor{
		{Name: "bert.w", DType: F32, Shape: []int64{2, 3, 4}, Data: data},
		{Name: "a.scalar", DType: F32, Data: data[:4]},
		{Name: "half", DType: F16, Shape: []int64{3}, Data: []byte{0, 0x3c, 1, 0, 0, 0xfc}},
		{Name: "brain", DType: BF16, Shape: []int64{1}, Data: []byte{0x80, 0x3f}},
		{Name: "ids", DType: I64, Shape: []int64{1, 2}, Data: []byte{1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{Name: "mask", DType: BOOL, Shape: []int64{3}, Data: []byte{1, 0, 1}},
		{Name: "empty \"\u00e9\"\n", DType: F64, Shape: []int64{0, 2}},
	}
	if err := WriteSafetensors(filepath.Join(dir, "go.safetensors"), tensors, map[string]string{"format": "pt"}); err != nil {
		t.Fatal(err)
	}
	out := python(t, dir, `
import safetensors.torch as s
d = s.load_file("go.safetensors")
s.save_file(d, "python.safetensors", {"format": "pt"})
print(d["half"].tolist(), d["brain"].tolist(), d["ids"].tolist(), d["mask"].tolist(), list(d["bert.w"].shape), d["a.scalar"].item())
print([k for k in d if k.startswith("empty")])
`)
	want := fmt.Sprintf("[1.0, 5.960464477539063e-08, -inf] [1.0] [[1, -1]] [True, False, True] [2, 3, 4] %v\n['empty \"\u00e9\"\\n']\n",
		float64(values[0]))
	if out != want {
		t.Errorf("Python reads\n%s, want\n%s", out, want)
	}
	a, errA := os.ReadFile(filepath.Join(dir, "go.safetensors"))
	b, errB := os.ReadFile(filepath.Join(dir, "python.safetensors"))
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("Go wrote\n%q\nPython wrote\n%q (%v %v)", a, b, errA, errB)
	}
}

// A model directory that transformers wrote, read and written by this package,
// loads in transformers with nothing missing and the same tensors; sharded too.
func TestReferenceModelDirectory(t *testing.T) {
	dir := t.TempDir()
	python(t, dir, `
import torch, transformers
c = transformers.BertConfig(vocab_size=11, hidden_size=4, num_hidden_layers=2, num_attention_heads=2, intermediate_size=6)
m = transformers.BertForMaskedLM(c)
m.save_pretrained("one"); m.save_pretrained("many", max_shard_size="1KB")
`)
	for _, from := range []string{"one", "many"} {
		src, dst := filepath.Join(dir, from), filepath.Join(dir, "go-"+from)
		if err := os.Mkdir(dst, 0o755); err != nil {
			t.Fatal(err)
		}
		w, err := Open(src)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if sharded := strings.HasSuffix(w.Path, safetensorsIndex); sharded != (from == "many") {
			t.Errorf("opened %s", w.Path)
		}
		var tensors []Tensor
		for _, name := range w.Names() {
			tensor, _ := w.Tensor(name)
			tensors = append(tensors, tensor)
		}
		c, err := ReadConfig(src)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{
			WriteSafetensors(filepath.Join(dst, safetensorsFile), tensors, map[string]string{"format": "pt"}),
			c.Write(filepath.Join(dst, ConfigFile)),
			CopyExtras(src, dst),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	out := python(t, dir, `
import filecmp, torch, transformers
want = transformers.BertForMaskedLM.from_pretrained("one").state_dict()
for d in ("go-one", "go-many"):
    m, info = transformers.BertForMaskedLM.from_pretrained(d, output_loading_info=True)
    print(d, sorted(info["missing_keys"]), sorted(info["unexpected_keys"]), all(torch.equal(v, want[k]) for k, v in m.state_dict().items()))
print(all(filecmp.cmp(f"one/{f}", f"go-one/{f}", shallow=False) for f in ("config.json", "model.safetensors")))
`)
	if want := "go-one [] [] True\ngo-many [] [] True\nTrue\n"; out != want {
		t.Errorf("transformers says\n%s, want\n%s", out, want)
	}
}

// The command that an error about pytorch_model.bin offers does what it says.
func TestReferenceTorchHint(t *testing.T) {
	dir := t.TempDir()
	file, err := os.ReadFile("testdata/torch/zip.bin")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, torchFile, file)
	_, command, ok := strings.Cut(torchHint, "python3 -c '")
	if !ok {
		t.Fatal("the hint has no command")
	}
	python(t, dir, strings.TrimSuffix(command, "'"))
	got, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	want, err := openFile(filepath.Join(dir, torchFile), parseTorch)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	if filepath.Base(got.Path) != safetensorsFile || fmt.Sprint(got.Names()) != fmt.Sprint(want.Names()) {
		t.Errorf("%s has %v", got.Path, got.Names())
	}
}

// The tokenizers library takes every tokenizer.json that is made here.
func TestReferenceTokenizers(t *testing.T) {
	dir := t.TempDir()
	for from := range tokenizerCases(t) {
		data, err := TokenizerJSON(from)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, dir, filepath.Base(from)+".json", data)
		want := filepath.Join(from, "want.json")
		text, err := os.ReadFile(want)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, dir, filepath.Base(from)+".want", text)
	}
	out := python(t, dir, `
import glob, json, tokenizers
text = "The rays [MASK] a bc <mask> of caf\u00e9 <n> AB <user> light \u4e00 <extra_id_0> [SEP]"
for f in sorted(glob.glob("*.json")):
    got = tokenizers.Tokenizer.from_file(f)
    want = tokenizers.Tokenizer.from_str(json.dumps(json.load(open(f[:-4] + "want"))["tokenizer"]))
    a, b = got.encode(text, text), want.encode(text, text)
    if (a.ids, a.offsets, a.type_ids) != (b.ids, b.offsets, b.type_ids):
        print(f, a.ids, b.ids)
`)
	if out != "" {
		t.Errorf("encodings differ:\n%s", out)
	}
}
