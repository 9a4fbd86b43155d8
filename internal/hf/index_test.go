package hf

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func indexOf(t testing.TB, shards map[string]string) []byte {
	t.Helper()
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{"total_size": 2}, "weight_map": shards})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestOpenShardedLies(t *testing.T) {
	outside := writeFile(t, t.TempDir(), "secret.safetensors", oneTensor("a", 1))
	for name, c := range map[string]struct {
		index string
		words []string
	}{
		"parent":         {`{"weight_map":{"a":"../x.safetensors"}}`, []string{"tensor a", "../x", "outside"}},
		"hidden parent":  {`{"weight_map":{"a":"sub/../../x.safetensors"}}`, []string{"outside"}},
		"absolute":       {`{"weight_map":{"a":"` + outside + `"}}`, []string{outside, "outside"}},
		"backslashes":    {`{"weight_map":{"a":"..\\x"}}`, []string{"outside"}},
		"the directory":  {`{"weight_map":{"a":"."}}`, []string{"outside"}},
		"link":           {`{"weight_map":{"a":"link.safetensors"}}`, []string{"tensor a", "link", "outside"}},
		"linked folder":  {`{"weight_map":{"a":"folder/secret.safetensors"}}`, []string{"tensor a", "outside"}},
		"missing":        {`{"weight_map":{"a":"absent.safetensors"}}`, []string{"tensor a", "absent.safetensors", "missing"}},
		"wrong shard":    {`{"weight_map":{"a":"1.safetensors","b":"1.safetensors"}}`, []string{"tensor b", "1.safetensors", "does not"}},
		"folder":         {`{"weight_map":{"a":"sub"}}`, []string{"sub", "not a regular file"}},
		"no map":         {`{"metadata":{}}`, []string{"weight_map"}},
		"empty map":      {`{"weight_map":{}}`, []string{"weight_map is empty"}},
		"list":           {`{"weight_map":["a"]}`, []string{"weight_map"}},
		"number":         {`{"weight_map":{"a":1}}`, []string{"tensor a", "not a string"}},
		"twice":          {`{"weight_map":{"a":"1.safetensors","a":"1.safetensors"}}`, []string{"twice"}},
		"invalid":        {`{`, []string{"invalid JSON"}},
		"broken shard":   {`{"weight_map":{"a":"broken.safetensors"}}`, []string{"broken.safetensors", "too short"}},
		"zero bytes":     {`{"weight_map":{"a":"empty.safetensors"}}`, []string{"empty.safetensors", "0 bytes"}},
		"null character": {`{"weight_map":{"a":"a\u0000b"}}`, []string{"outside"}},
	} {
		dir := t.TempDir()
		writeFile(t, dir, "1.safetensors", oneTensor("a", 1))
		writeFile(t, dir, "sub/2.safetensors", oneTensor("b", 1))
		writeFile(t, dir, "broken.safetensors", []byte("{"))
		writeFile(t, dir, "empty.safetensors", nil)
		for link, target := range map[string]string{"link.safetensors": outside, "folder": filepath.Dir(outside)} {
			if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
		writeFile(t, dir, safetensorsIndex, []byte(c.index))
		_, err := Open(dir)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantError(t, err, append(c.words, dir)...)
	}
}

// A snapshot of the Hub's cache is links to blobs beside it, and reads as it is.
func TestOpenHubSnapshot(t *testing.T) {
	model := filepath.Join(t.TempDir(), "models--org--name")
	snapshot := filepath.Join(model, "snapshots", "abc")
	writeFile(t, model, "blobs/111", oneTensor("a", 1))
	writeFile(t, model, "blobs/222", indexOf(t, map[string]string{"a": "1.safetensors"}))
	if err := os.MkdirAll(snapshot, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, blob := range map[string]string{"1.safetensors": "111", safetensorsIndex: "222"} {
		if err := os.Symlink(filepath.Join("..", "..", "blobs", blob), filepath.Join(snapshot, name)); err != nil {
			t.Fatal(err)
		}
	}
	w, err := Open(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if a, ok := w.Tensor("a"); !ok || a.Data[0] != 1 {
		t.Errorf("a is %+v", a)
	}
}

func FuzzParseIndex(f *testing.F) {
	for _, seed := range []string{
		`{"weight_map":{"a":"x"}}`, `{"weight_map":{"a":"../x"}}`, `{"weight_map":{"a":"/x"}}`, `{"weight_map":{"":""}}`, `{"weight_map":[]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		shards, err := parseIndex(data)
		if err != nil {
			return
		}
		for tensor, file := range shards {
			if path := filepath.Join("/model", file); !within([]string{"/model"}, path) || path == "/model" {
				t.Fatalf("tensor %q escapes to %q", tensor, path)
			}
		}
	})
}
