package mesh

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const testSecret = "0123456789abcdef0123456789abcdef"

func TestReadKey(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	// As Kubernetes mounts a secret: key -> ..data/key, ..data -> ..2026_11_26.
	if err := os.MkdirAll(filepath.Join(dir, "..2026_11_26"), 0o755); err != nil {
		t.Fatal(err)
	}
	os.Symlink("..2026_11_26", filepath.Join(dir, "..data"))
	mounted := func(name string, mode os.FileMode) string {
		write("..2026_11_26/"+name, testSecret, mode)
		link := filepath.Join(dir, name)
		if err := os.Symlink("..data/"+name, link); err != nil {
			t.Fatal(err)
		}
		return link
	}
	for _, c := range []struct{ name, file, want string }{
		{"own", write("own", " \n"+testSecret+"\n", 0o600), ""},
		{"read only", write("ro", testSecret, 0o400), ""},
		{"group", write("group", testSecret, 0o640), "chmod 600"},
		{"others", write("others", testSecret, 0o604), "chmod 600"},
		{"short", write("short", "  0123456789abcde\n", 0o600), "at least 16"},
		{"long", write("long", strings.Repeat("x", maxKeyBytes+1), 0o600), "not a key"},
		{"directory", dir, "not a file"},
		{"missing", filepath.Join(dir, "none"), "no such file"},
		{"mounted", mounted("m400", 0o400), ""},
		{"mounted with an fsGroup", mounted("m440", 0o440), ""},
		{"mounted as by default", mounted("m644", 0o644), "defaultMode: 0400"},
		{"mounted, the group may write", mounted("m460", 0o460), "defaultMode: 0400"},
	} {
		key, err := ReadKey(c.file)
		switch {
		case c.want == "" && (err != nil || string(key) != testSecret):
			t.Errorf("%s: %q %v", c.name, key, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), filepath.Base(c.file))):
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestKeyFromEnvironment(t *testing.T) {
	t.Setenv(KeyVariable, testSecret+"\n")
	if key, err := KeyFromEnvironment(); err != nil || string(key) != testSecret {
		t.Fatalf("%q %v", key, err)
	}
	if _, set := os.LookupEnv(KeyVariable); set {
		t.Fatal("whoever starts later inherits the key")
	}
	if key, err := KeyFromEnvironment(); err != nil || key != nil {
		t.Fatalf("a second time: %q %v", key, err)
	}
	t.Setenv(KeyVariable, "short")
	if _, err := KeyFromEnvironment(); err == nil || !strings.Contains(err.Error(), KeyVariable) {
		t.Fatal(err)
	}
	if _, set := os.LookupEnv(KeyVariable); set {
		t.Fatal("a key that is refused stays in the environment")
	}
}
