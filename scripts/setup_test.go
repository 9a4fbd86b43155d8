// Package scripts holds the tests of the set-up scripts: on wheels of a few bytes, in a cache of their own.
package scripts

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// script runs one of the scripts with more environment, and returns what it printed on both outputs.
func script(t *testing.T, environment []string, name string, arguments ...string) (output string, ok bool) {
	t.Helper()
	// go test keeps a result until a file changes that the test itself has read, so it reads what the shell will.
	for _, file := range []string{"lib.sh", "wheels.py", name} {
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command("./"+name, arguments...)
	command.Env = append(os.Environ(), environment...)
	out, err := command.CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	return string(out), err == nil
}

// wheel writes a wheel that holds files, with the RECORD that a wheel has.
func wheel(t *testing.T, dir, name, version string, files map[string]string) {
	t.Helper()
	info := name + "-" + version + ".dist-info/"
	all := map[string]string{
		info + "METADATA": "Metadata-Version: 2.1\nName: " + name + "\nVersion: " + version + "\n",
		info + "WHEEL":    "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
	}
	for path, content := range files {
		all[path] = content
	}
	record := ""
	for path, content := range all {
		sum := sha256.Sum256([]byte(content))
		record += fmt.Sprintf("%s,sha256=%s,%d\n", path, base64.RawURLEncoding.EncodeToString(sum[:]), len(content))
	}
	all[info+"RECORD"] = record + info + "RECORD,,\n"
	file, err := os.Create(filepath.Join(dir, name+"-"+version+"-py3-none-any.whl"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	archive := zip.NewWriter(file)
	for path, content := range all {
		entry, err := archive.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := entry.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
}

const library = "torch/lib/libtorch_cpu.so"

// offline returns an environment in which pip finds small stand-ins for the wheels, and where libtorch will lie.
func offline(t *testing.T) (environment []string, libtorch string) {
	t.Helper()
	if exec.Command("python3", "-m", "pip", "--version").Run() != nil {
		t.Skip("python3 has no pip")
	}
	wheels, cache := t.TempDir(), t.TempDir()
	wheel(t, wheels, "torch", "2.11.0", map[string]string{library: "the library", "torch/include/a.h": "int a;"})
	wheel(t, wheels, "nvidia_cuda_cupti", "13.0.85", map[string]string{"nvidia/cu13/lib/libcupti.so.13": "cupti"})
	wheel(t, wheels, "nvidia_cuda_runtime", "13.0.96", map[string]string{"nvidia/cu13/lib/libcudart.so.13": "cudart"})
	return []string{"XDG_CACHE_HOME=" + cache, "PIP_NO_INDEX=1", "PIP_FIND_LINKS=" + wheels, "CUDA=0", "LIBTORCH="},
		filepath.Join(cache, "ddprun", "libtorch-2.11.0")
}

func fetch(t *testing.T, environment []string) string {
	t.Helper()
	out, ok := script(t, environment, "libtorch.sh", "wheel")
	if strings.Contains(out, "free some") {
		t.Skip(out)
	}
	if !ok {
		t.Fatal(out)
	}
	return out
}

func TestDamageIsMended(t *testing.T) {
	t.Parallel()
	environment, dir := offline(t)
	if out := fetch(t, environment); !strings.Contains(out, "downloading") {
		t.Fatalf("first run: %s", out)
	}
	if out := fetch(t, environment); strings.TrimSpace(out) != filepath.Join(dir, "torch") {
		t.Errorf("second run is not silent: %s", out)
	}
	name := filepath.Join(dir, library)
	for _, c := range []struct {
		damage string
		do     func() error
		more   string // environment that it takes to notice
	}{
		{"truncated", func() error { return os.Truncate(name, 3) }, ""},
		{"missing", func() error { return os.Remove(name) }, ""},
		{"same size", func() error { return os.WriteFile(name, []byte("THE LIBRARY"), 0o644) }, "VERIFY=1"},
		{"unsealed", func() error {
			return os.Rename(filepath.Join(dir, ".files"), name) // a copy that was cut short has no list of its files
		}, ""},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		if out := fetch(t, append(environment, c.more)); !strings.Contains(out, "damaged") {
			t.Errorf("%s: not noticed: %s", c.damage, out)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != "the library" {
			t.Errorf("%s: not mended: %q, %v", c.damage, got, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "tmp.*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A directory that something else unpacked is taken as it is when its files are what the wheels say.
func TestWholeDirectoryIsAdopted(t *testing.T) {
	t.Parallel()
	environment, dir := offline(t)
	fetch(t, environment)
	if err := os.Remove(filepath.Join(dir, ".files")); err != nil {
		t.Fatal(err)
	}
	if out := fetch(t, environment); strings.Contains(out, "downloading") {
		t.Errorf("fetched again: %s", out)
	}
}

func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	environment, _ := offline(t)
	var outs [2]string
	var both sync.WaitGroup
	for i := range outs {
		both.Go(func() { outs[i], _ = script(t, environment, "libtorch.sh", "wheel") })
	}
	both.Wait()
	if strings.Contains(outs[0], "free some") {
		t.Skip(outs[0])
	}
	if n := strings.Count(outs[0]+outs[1], "downloading"); n != 1 {
		t.Errorf("%d downloads:\n%s%s", n, outs[0], outs[1])
	}
}

func TestFailedDownloadSaysSoAndLeavesNothing(t *testing.T) {
	t.Parallel()
	environment, dir := offline(t)
	out, ok := script(t, append(environment, "PIP_FIND_LINKS="+t.TempDir()), "libtorch.sh", "wheel")
	if strings.Contains(out, "free some") {
		t.Skip(out)
	}
	if ok || !strings.Contains(out, "pip could not download libtorch") {
		t.Errorf("ok %t: %s", ok, out)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s: %v", dir, err)
	}
}

func TestNamedLibtorchIsChecked(t *testing.T) {
	old := t.TempDir()
	headers := filepath.Join(old, "include/torch/csrc/api/include/torch")
	for _, dir := range []string{headers, filepath.Join(old, "lib")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	version := "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 5\n#define TORCH_VERSION_PATCH 1\n"
	for name, content := range map[string]string{
		filepath.Join(headers, "version.h"):       version,
		filepath.Join(old, "lib/libtorch_cpu.so"): "",
	} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]string{
		old:                "its version is 2.5.1, and only 2.11 is supported",
		t.TempDir():        "it lacks include/torch or lib/libtorch_cpu.so",
		"/a directory/for": "its path holds a blank",
	} {
		for _, run := range [][]string{{"libtorch.sh", "find"}, {"libtorch.sh", "setup"}, {"env.sh"}} {
			out, ok := script(t, []string{"LIBTORCH=" + dir, "XDG_CACHE_HOME=" + t.TempDir()}, run[0], run[1:]...)
			if ok || !strings.Contains(out, "LIBTORCH="+dir+" cannot be used: "+want) {
				t.Errorf("%v, LIBTORCH=%s: ok %t, %s", run, dir, ok, out)
			}
		}
	}
}

// Every missing or old tool is named in one go.
func TestMissingTools(t *testing.T) {
	bin := t.TempDir()
	for _, tool := range []string{"sh", "dirname", "cat", "sed", "cut", "sort", "head", "uname", "getconf"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	out, ok := script(t, []string{"PATH=" + bin}, "check-tools.sh")
	for _, want := range []string{
		"a C++ compiler: apt install g++", "make: ", "ar: ", "flock: ", "Go 1.", "cargo 1.85 or later: ", "Python 3 with pip: ",
	} {
		if ok || !strings.Contains(out, want) {
			t.Errorf("no word of %q in:\n%s", want, out)
		}
	}
	for tool, answer := range map[string]string{"go": "go1.19.8", "cargo": "cargo 1.65.0"} {
		if err := os.WriteFile(filepath.Join(bin, tool), []byte("#!/bin/sh\necho "+answer+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out, _ = script(t, []string{"PATH=" + bin}, "check-tools.sh")
	for _, want := range []string{
		"(found: 1.19.8): install it from https://go.dev/dl/",
		"(found: 1.65.0): install it with rustup",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no word of %q in:\n%s", want, out)
		}
	}
}
