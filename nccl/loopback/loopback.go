// Package loopback builds the loopback library for tests: a test double of NCCL and of the CUDA runtime over host memory,
// for CPU tensors and any number of processes. It is no implementation of either: README.md says what it is faithful to.
//
//	library, err := loopback.Build()
//	cmd.Env = append(os.Environ(), loopback.Environment(library)...)
//
// Faults are asked for by LOOPBACK_FAULT (testdata/fault.c); LOOPBACK_LAUNCH_US makes launches later, and -1 part of the call;
// LOOPBACK_SILENT=1 leaves a process's death unnoticed; LOOPBACK_DEVICES is the number of GPUs, LOOPBACK_VERSION NCCL's version.
package loopback

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed testdata/*.c testdata/*.h
var sources embed.FS

// Build compiles the library with the C compiler (CC, else cc) and more flags, and returns its file. It lies in the user's cache under
// a name that its sources and flags decide, so that it is compiled once.
func Build(flags ...string) (string, error) {
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	// Bsymbolic: libc has functions of names that the library's own have.
	arguments := append([]string{"-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-Wl,-Bsymbolic", "-pthread", "-o",
		"library"}, flags...)
	fmt.Fprintln(hash, cc, arguments)
	files, err := fs.Glob(sources, "testdata/*")
	if err != nil {
		return "", err
	}
	content := map[string][]byte{}
	for _, name := range files {
		if content[name], err = sources.ReadFile(name); err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s %d\n%s", name, len(content[name]), content[name])
	}
	library := filepath.Join(cache, "ddprun", fmt.Sprintf("loopback-%x", hash.Sum(nil)[:6]), "libnccl-loopback.so")
	if _, err := os.Stat(library); err == nil {
		return library, nil
	}
	if err := os.MkdirAll(filepath.Dir(library), 0o755); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(filepath.Dir(library), "tmp")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	for name, text := range content {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), text, 0o644); err != nil {
			return "", err
		}
		if filepath.Ext(name) == ".c" {
			arguments = append(arguments, filepath.Base(name))
		}
	}
	compile := exec.Command(cc, arguments...)
	compile.Dir = dir
	if out, err := compile.CombinedOutput(); err != nil {
		return "", fmt.Errorf("loopback: %s %v: %w\n%s", cc, arguments, err, out)
	}
	return library, os.Rename(filepath.Join(dir, "library"), library)
}

// Environment lists the variables with which a process takes the library for NCCL and for the CUDA runtime.
func Environment(library string) []string {
	return []string{"NCCL_LIBRARY=" + library, "CUDART_LIBRARY=" + library}
}
