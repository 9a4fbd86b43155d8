package shard

import (
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
)

func TestListSources(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"b.txt", "a.txt", "c.md", "sub/d.txt", "sub/e.md", "odd[1].txt", "mixed/a.csv", "mixed/b.tsv.xz", "mixed/c.parquet",
		"mixed/d.ndjson.zst", "mixed/e.txt.bz2", "mixed/B.JSONL.GZ", "mixed/info.json", "mixed/f.parquet.gz", "mixed/g.gz", "mixed/h.tar.gz", "mixed/i.bin"} {
		writeFile(t, name, "x")
	}
	if err := os.Symlink("../a.txt", "sub/link.txt"); err != nil {
		t.Fatal(err)
	}
	// A link to a directory above: ** does not go in circles.
	if err := os.Symlink("..", "sub/up"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ patterns, want []string }{
		{[]string{"*.txt"}, []string{"a.txt", "b.txt", "odd[1].txt"}},
		{[]string{"b.txt", "./a.txt", filepath.Join(dir, "a.txt"), "*.txt"}, []string{"a.txt", "b.txt", "odd[1].txt"}},
		{[]string{"sub"}, []string{"sub/d.txt", "sub/link.txt"}},
		{[]string{"sub/", "c.md"}, []string{"c.md", "sub/d.txt", "sub/link.txt"}},
		{[]string{"*"}, []string{"a.txt", "b.txt", "c.md", "odd[1].txt"}},
		{[]string{"odd[1].txt"}, []string{"odd[1].txt"}},
		{[]string{"**/*.txt"}, []string{"a.txt", "b.txt", "odd[1].txt", "sub/d.txt", "sub/link.txt"}},
		{[]string{"**/e.md", "sub/**"}, []string{"sub/d.txt", "sub/e.md", "sub/link.txt"}},
		{[]string{"mixed"}, []string{"mixed/B.JSONL.GZ", "mixed/a.csv", "mixed/b.tsv.xz", "mixed/c.parquet", "mixed/d.ndjson.zst", "mixed/e.txt.bz2"}},
		{[]string{"mixed/*.json"}, []string{"mixed/info.json"}},
	} {
		if got, err := listSources(test.patterns); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: %q, %v; want %q", test.patterns, got, err, test.want)
		}
	}
}

func TestListSourcesRefuses(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	writeFile(t, "empty/x.md", "x")
	if err := syscall.Mkfifo("pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]string{
		"no-*.txt": "no-*.txt", "gone.txt": "gone.txt", "empty": "no *.txt", "empty*": "matches no file", "[": "bad pattern", "**/[": "bad pattern", "**/no": "matches no file", "": "empty path",
		"pipe": "neither a regular file",
	} {
		_, err := listSources([]string{pattern})
		wantError(t, err, want)
	}
}
