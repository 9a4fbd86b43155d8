package hf

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := writeFile(t, dir, "f", []byte("0123456789"))
	if data, err := readFile(path, 10); err != nil || string(data) != "0123456789" {
		t.Errorf("got %q (%v)", data, err)
	}
	_, err := readFile(path, 9)
	wantError(t, err, path, "larger than")
	_, err = readFile(dir, 10)
	wantError(t, err, dir, "not a regular file")
	_, err = readFile(filepath.Join(dir, "absent"), 10)
	wantError(t, err, "absent")
	_, err = readText(writeFile(t, dir, "latin1", []byte("caf\xe9")), 10)
	wantError(t, err, "latin1", "UTF-8")
}

// A pipe without a writer would be waited for.
func TestPipesAreRefused(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, safetensorsFile)
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir)
	wantError(t, err, pipe, "not a regular file")
	_, err = readFile(pipe, 10)
	wantError(t, err, pipe, "not a regular file")
}
