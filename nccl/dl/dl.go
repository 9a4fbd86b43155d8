// Package dl opens a C library at run time: it looks for it, opens it once, and says what to install where it is missing.
// nccl and nccl/cuda build their function tables on it, so that one worker runs with and without a GPU.
package dl

/*
#cgo LDFLAGS: -ldl
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>

static const char *dl_path(void *handle) {
    struct link_map *map = 0;
    return dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map ? map->l_name : "";
}
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"
)

// ErrNotFound is what the error of a library that is nowhere, or cannot be opened, is.
var ErrNotFound = errors.New("library not found")

// Search says where a library is looked for, in this order: the file that Variable names, and nothing else where it is set; the
// library of that name that the process has already; the loader's path; beside libtorch; Python's packages.
type Search struct {
	Variable string   // environment variable that names the file
	Names    []string // sonames, the best first, as "libnccl.so.2"
	Packages []string // folders of it below Python's site-packages, as "nvidia/nccl/lib"
	Install  string   // what to do where it is missing
}

// Library is an open library; it stays open for the life of the process.
type Library struct {
	handle unsafe.Pointer
	// Path is the file that the loader took.
	Path string
}

// Open opens the first that there is.
func (s Search) Open() (*Library, error) {
	if file := os.Getenv(s.Variable); file != "" {
		lib, why := open(file, C.RTLD_NOW)
		if lib == nil {
			return nil, fmt.Errorf("%s=%s cannot be opened: %s: name a %s, or unset it to have one found: %w",
				s.Variable, file, why, s.Names[0], ErrNotFound)
		}
		return lib, s.alone(lib)
	}
	for _, name := range s.Names {
		if lib, _ := open(name, C.RTLD_NOW|C.RTLD_NOLOAD); lib != nil {
			return lib, nil
		}
	}
	damaged := ""
	for _, find := range []func() []string{s.names, s.besideTorch, s.inPython} {
		for _, file := range find() {
			lib, why := open(file, C.RTLD_NOW)
			if lib != nil {
				return lib, nil
			}
			if !strings.Contains(why, file+": cannot open shared object file: No such file") {
				damaged = "; one is there and cannot be opened: " + why
			}
		}
	}
	return nil, fmt.Errorf("no %s on the loader's path, beside libtorch or in Python's packages%s: %s, or name the file in %s: %w",
		s.Names[0], damaged, s.Install, s.Variable, ErrNotFound)
}

// alone refuses lib where another of its kind is in the process, libtorch's: each would hold half of the state.
// The test double has nothing in common with the real ones, of which libtorch_cpu.so brings the CUDA runtime along.
func (s Search) alone(lib *Library) error {
	if lib.IsDouble() {
		return nil
	}
	for _, name := range s.Names {
		other, _ := open(name, C.RTLD_NOW|C.RTLD_NOLOAD)
		if other != nil && other.handle != lib.handle {
			return fmt.Errorf("%s=%s, but the process has %s already: open it before libtorch's CUDA libraries, or unset %s",
				s.Variable, lib.Path, other.Path, s.Variable)
		}
	}
	return nil
}

func (s Search) names() []string { return s.Names }

// besideTorch lists the files that libtorch's own search finds: in its lib, and in NVIDIA's packages beside it.
func (s Search) besideTorch() []string {
	var dirs []string
	if dir := os.Getenv("LIBTORCH"); dir != "" {
		dirs = append(dirs, filepath.Join(dir, "lib"))
	}
	if dir := loadedFrom("libc10.so"); dir != "" {
		dirs = append(dirs, dir)
	}
	var files []string
	for _, dir := range dirs {
		files = append(files, s.in(dir)...)
		for _, p := range s.Packages {
			files = append(files, s.in(filepath.Join(dir, "..", "..", p))...)
		}
	}
	return files
}

// inPython lists the files in the packages of python3. It starts a Python, so it comes last.
func (s Search) inPython() []string {
	out, err := exec.Command("python3", "-c", "import sys; print(*filter(None, sys.path), sep='\\n')").Output()
	if err != nil {
		return nil
	}
	var files []string
	for dir := range strings.Lines(string(out)) {
		for _, p := range s.Packages {
			files = append(files, s.in(filepath.Join(strings.TrimSpace(dir), p))...)
		}
	}
	return files
}

// in lists those of the names that are files of dir.
func (s Search) in(dir string) []string {
	var files []string
	for _, name := range s.Names {
		if file := filepath.Join(dir, name); exists(file) {
			files = append(files, file)
		}
	}
	return files
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// loadedFrom returns the folder of a library that the process has, or nothing.
func loadedFrom(name string) string {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(maps)) {
		if i := strings.IndexByte(line, '/'); i >= 0 && filepath.Base(strings.TrimSpace(line[i:])) == name {
			return filepath.Dir(line[i:])
		}
	}
	return ""
}

// open returns the library, or what the loader says.
func open(file string, flags C.int) (*Library, string) {
	c := C.CString(file)
	defer C.free(unsafe.Pointer(c))
	handle := C.dlopen(c, flags)
	if handle == nil {
		return nil, C.GoString(C.dlerror())
	}
	path := C.GoString(C.dl_path(handle))
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return &Library{handle, path}, ""
}

// IsDouble tells whether this is the test double of nccl/loopback.
func (l *Library) IsDouble() bool { return l.Symbol("ncclLoopbackFault") != nil }

// Symbol returns the address of a function, nil where the library has none of that name.
func (l *Library) Symbol(name string) unsafe.Pointer {
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	return C.dlsym(l.handle, c)
}

// Fill looks up each of names into table, a C array of as many function pointers, and returns those that are lacking.
func (l *Library) Fill(table unsafe.Pointer, names []string) []string {
	slots := unsafe.Slice((*unsafe.Pointer)(table), len(names))
	var lacking []string
	for i, name := range names {
		if slots[i] = l.Symbol(name); slots[i] == nil {
			lacking = append(lacking, name)
		}
	}
	return slices.Clip(lacking)
}
