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
	for _, name := range []string{"b.txt", "a.txt", "c.md", "sub/d.txt", "sub/e.md", "odd[1].txt"} {
		writeFile(t, name, "x")
	}
	if err := os.Symlink("../a.txt", "sub/link.txt"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ patterns, want []string }{
		{[]string{"*.txt"}, []string{"a.txt", "b.txt", "odd[1].txt"}},
		{[]string{"b.txt", "./a.txt", filepath.Join(dir, "a.txt"), "*.txt"}, []string{"a.txt", "b.txt", "odd[1].txt"}},
		{[]string{"sub"}, []string{"sub/d.txt", "sub/link.txt"}},
		{[]string{"sub/", "c.md"}, []string{"c.md", "sub/d.txt", "sub/link.txt"}},
		{[]string{"*"}, []string{"a.txt", "b.txt", "c.md", "odd[1].txt"}},
		{[]string{"odd[1].txt"}, []string{"odd[1].txt"}},
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
		"no-*.txt": "no-*.txt", "gone.txt": "gone.txt", "empty": "no *.txt", "empty*": "matches no file", "[": "bad pattern", "": "empty path",
		"pipe": "neither a regular file",
	} {
		_, err := listSources([]string{pattern})
		wantError(t, err, want)
	}
}
