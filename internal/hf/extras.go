package hf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// weightSuffixes end the names of files that hold weights in one format or another,
// or belong to one. What a run trains makes them all stale.
var weightSuffixes = []string{
	".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".h5", ".msgpack",
	".msgpack.index.json", ".h5.index.json", ".ot", ".onnx", ".onnx_data", ".gguf", ".tflite", ".mlmodel", ".data-00000-of-00001",
}

// weightFolders hold exports of the weights, whatever the names in them.
var weightFolders = []string{"onnx", "openvino", "coreml", "tflite", "gguf", "original"}

// trainingFiles are what Trainer and ddprun leave beside a model about the run that
// made it, which is not the run that copies. (Others of theirs end as weights do.)
var trainingFiles = []string{"trainer_state.json", "metrics.jsonl", "ddprun_state.json"}

// skipExtra says whether the file or folder at rel, within a model directory, is no
// extra.
func skipExtra(rel string, isDir bool) bool {
	folder, name := path.Split(rel)
	if strings.HasPrefix(name, ".") { // .git, .cache, .gitattributes, .ddprun
		return true
	}
	if isDir {
		return slices.Contains(weightFolders, name) || name == "logs" || name == "runs" || strings.HasPrefix(name, "checkpoint-")
	}
	if rel == ConfigFile || slices.Contains(trainingFiles, name) {
		return true
	}
	isWeights := slices.ContainsFunc(weightSuffixes, func(suffix string) bool { return strings.HasSuffix(name, suffix) })
	return isWeights && !moduleFolder.MatchString(folder)
}

// moduleFolder is a folder of sentence-transformers, say 2_Dense/, whose weights are
// a layer of their own and not a copy of the model's.
var moduleFolder = regexp.MustCompile(`^[0-9]+_[A-Za-z]+/`)

// CopyExtras copies from one model directory to another, which must exist, what is
// neither weights nor config.json nor the state of an earlier run: the tokenizer's
// files, generation_config.json, the model card and licence, folders such as
// sentence-transformers' 1_Pooling, and whatever else there is. Left out are hidden
// entries, weights of any format and folders of exports (onnx, openvino, ...),
// since the weights that the caller writes make those stale.
//
// Links are followed if they stay in the model's directory or, in a snapshot of the
// Hub's cache, lead to its blobs. A link to elsewhere is an error, since following
// it could publish any file of the machine; CheckExtras finds it before a run.
// Dangling links and what is neither file nor folder are left out. Files that dst has
// are replaced, its links never written through. The files are synced.
func CopyExtras(src, dst string) error {
	into, err := os.OpenRoot(dst)
	if err != nil {
		return err
	}
	defer into.Close()
	dstReal, err := realPath(dst)
	if err != nil {
		return err
	}
	return walkExtras(src, extrasCopier{into: into, dst: dstReal})
}

// CheckExtras says what would keep CopyExtras from reading src. It writes nothing.
func CheckExtras(src string) error {
	return walkExtras(src, extrasCopier{})
}

func walkExtras(src string, c extrasCopier) (err error) {
	if c.roots, err = trustedRoots(src); err != nil {
		return err
	}
	return c.folder(src, "", 0)
}

// maxExtraDepth bounds nested folders, and with them links that lead in circles.
const maxExtraDepth = 16

type extrasCopier struct {
	roots []string // where links may lead
	into  *os.Root // nil: only check
	dst   string   // where into lies, links resolved
}

// folder copies the folder at src; rel is its place in the model directory, with
// slashes.
func (c *extrasCopier) folder(src, rel string, depth int) error {
	if depth > maxExtraDepth {
		return fmt.Errorf("copy %s: more than %d folders deep", src, maxExtraDepth)
	}
	entries, err := os.ReadDir(src)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		from, at := filepath.Join(src, entry.Name()), path.Join(rel, entry.Name())
		info, err := c.resolve(from, at, entry.Type()&fs.ModeSymlink != 0)
		if err != nil {
			return err
		}
		switch {
		case info == nil:
		case info.IsDir():
			if err := c.folder(from, at, depth+1); err != nil {
				return err
			}
		case info.Mode().IsRegular() && c.into != nil:
			if err := c.file(from, at); err != nil {
				return fmt.Errorf("copy %s: %w", from, err)
			}
		}
	}
	return nil
}

// resolve is what an entry is, links followed; nil where it is not to be copied: no
// extra, a link that leads nowhere, or a folder that dst lies in.
func (c *extrasCopier) resolve(from, rel string, isLink bool) (fs.FileInfo, error) {
	real, err := realPath(from)
	if isLink && err != nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(real)
	if err != nil {
		return nil, err
	}
	if skipExtra(rel, info.IsDir()) || within([]string{real}, c.dst) {
		return nil, nil
	}
	if !within(c.roots, real) {
		return nil, fmt.Errorf("%s: is a link that leads outside the model's directory, to %s: put the file itself there, "+
			"or remove the link", from, real)
	}
	return info, nil
}

// file copies one file through a temporary name, so that what dst has under the
// name, even a link, is replaced and not written to.
func (c *extrasCopier) file(from, rel string) (err error) {
	in, err := openRegular(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := c.into.MkdirAll(path.Dir(rel), 0o755); err != nil {
		return err
	}
	temporary := rel + ".ddprun-tmp"
	if err := c.into.RemoveAll(temporary); err != nil {
		return err
	}
	out, err := c.into.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = c.into.Rename(temporary, rel)
	}
	if err != nil {
		return errors.Join(err, c.into.Remove(temporary))
	}
	return nil
}
