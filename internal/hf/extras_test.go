package hf

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// filesIn lists the files below dir with slashes, sorted.
func filesIn(t testing.TB, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			files = append(files, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	return files
}

func symlink(t testing.TB, target, link string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
}

func TestCopyExtras(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	keep := []string{
		"tokenizer.json", "tokenizer_config.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "my_tokenizer.xyz",
		"README.md", "LICENSE", "generation_config.json", "modules.json", "1_Pooling/config.json", "2_Dense/config.json",
		"2_Dense/model.safetensors", "deep/er/file.txt", "config_sentence_transformers.json", "modeling_custom.py",
	}
	leave := []string{
		ConfigFile, "model.safetensors", "model-00001-of-00002.safetensors", safetensorsIndex, torchFile, torchIndex, "tf_model.h5",
		"flax_model.msgpack", "rust_model.ot", "training_args.bin", "optimizer.pt", "trainer_state.json", "onnx/model.onnx",
		"onnx/config.json", "fp16/model.safetensors", "checkpoint-10/tokenizer.json", ".gitattributes", ".git/config",
	}
	for _, name := range slices.Concat(keep, leave) {
		writeFile(t, src, name, []byte("content of "+name))
	}
	if err := CopyExtras(src, dst); err != nil {
		t.Fatal(err)
	}
	slices.Sort(keep)
	if got := filesIn(t, dst); !slices.Equal(got, keep) {
		t.Errorf("copied %q\nwant %q", got, keep)
	}
	for _, name := range keep {
		if got, err := os.ReadFile(filepath.Join(dst, name)); err != nil || string(got) != "content of "+name {
			t.Errorf("%s holds %q (%v)", name, got, err)
		}
	}
	if err := CopyExtras(src, dst); err != nil {
		t.Errorf("copying again: %v", err)
	}
}

// Links within the model are followed, others are errors unless they are weights, and
// links in the destination are replaced, not written through.
func TestCopyExtrasLinks(t *testing.T) {
	src, dst, outside := t.TempDir(), t.TempDir(), t.TempDir()
	secret := writeFile(t, outside, "secret", []byte("secret"))
	writeFile(t, src, "a.txt", []byte("a"))
	writeFile(t, src, "victim", []byte("new"))
	writeFile(t, src, "folder/b.txt", []byte("b"))
	symlink(t, "a.txt", filepath.Join(src, "inside"))
	symlink(t, secret, filepath.Join(src, safetensorsFile))
	symlink(t, "absent", filepath.Join(src, "dangling"))
	symlink(t, "loop", filepath.Join(src, "loop"))
	symlink(t, secret, filepath.Join(dst, "victim"))
	if err := CopyExtras(src, dst); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a.txt", "folder/b.txt", "inside", "victim"}; !slices.Equal(filesIn(t, dst), want) {
		t.Errorf("copied %q, want %q", filesIn(t, dst), want)
	}
	if got, _ := os.ReadFile(secret); string(got) != "secret" {
		t.Errorf("a link in the destination was written through: %q", got)
	}
	if got, _ := os.ReadFile(filepath.Join(dst, "victim")); string(got) != "new" {
		t.Errorf("victim holds %q", got)
	}
	for link, target := range map[string]string{"leak": secret, "leaks": outside} {
		path := filepath.Join(src, link)
		symlink(t, target, path)
		wantError(t, CheckExtras(src), path, "outside", target)
		wantError(t, CopyExtras(src, t.TempDir()), path, "outside", target)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := CheckExtras(src); err != nil {
		t.Error(err)
	}
}

// A folder of the destination that leads out is an error, not a way out.
func TestCopyExtrasEscape(t *testing.T) {
	src, dst, outside := t.TempDir(), t.TempDir(), t.TempDir()
	writeFile(t, src, "folder/b.txt", []byte("b"))
	symlink(t, outside, filepath.Join(dst, "folder"))
	wantError(t, CopyExtras(src, dst), "b.txt")
	if files := filesIn(t, outside); len(files) != 0 {
		t.Errorf("written outside: %q", files)
	}
}

// A snapshot of the Hub's cache is links to blobs.
func TestCopyExtrasHubSnapshot(t *testing.T) {
	model, dst := filepath.Join(t.TempDir(), "models--a--b"), t.TempDir()
	writeFile(t, model, "blobs/111", []byte("vocab"))
	symlink(t, "../../blobs/111", filepath.Join(model, "snapshots", "abc", "vocab.txt"))
	if err := CopyExtras(filepath.Join(model, "snapshots", "abc"), dst); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dst, "vocab.txt")); err != nil || string(got) != "vocab" {
		t.Errorf("vocab.txt holds %q (%v)", got, err)
	}
}

// An output directory within the model's does not copy itself.
func TestCopyExtrasIntoItself(t *testing.T) {
	src := t.TempDir()
	dst := filepath.Join(src, "runs-of-mine", "checkpoint-1.tmp")
	writeFile(t, src, "vocab.txt", []byte("v"))
	writeFile(t, src, "runs-of-mine/metrics.txt", []byte("m"))
	if err := os.MkdirAll(dst, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := CopyExtras(src, dst); err != nil {
		t.Fatal(err)
	}
	if want := []string{"vocab.txt"}; !slices.Equal(filesIn(t, dst), want) {
		t.Errorf("copied %q, want %q", filesIn(t, dst), want)
	}
}

func TestCopyExtrasErrors(t *testing.T) {
	dir := t.TempDir()
	wantError(t, CopyExtras(filepath.Join(dir, "absent"), dir), "absent")
	wantError(t, CopyExtras(dir, filepath.Join(dir, "absent")), "absent")
	deep := dir
	for range maxExtraDepth + 2 {
		deep = filepath.Join(deep, "d")
	}
	writeFile(t, deep, "f", nil)
	wantError(t, CopyExtras(dir, t.TempDir()), "folders deep")
}
