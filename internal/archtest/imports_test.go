package archtest

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/ddprun/ddprun"
	root   = "../.."
)

// mayImport lists, for each package of ours, the packages of ours that it may import. A package that is not listed, and
// does not lie below a development folder, breaks the test: whoever adds one decides here where it stands.
var mayImport = map[string][]string{
	"cmd/ddprun": {"launch", "launch/pipe", "launch/where", "k8s", "slurm", "internal/checkpoint", "internal/config", "internal/hf"},
	"cmd/ddprun-worker": {"launch/pipe", "shard", "objectives", "internal/train", "internal/config", "internal/hf",
		"internal/tokenizer", "internal/remote"}, // joins the tokenizer, the objective, the shards and where texts lie, none of which knows another
	"launch":        {"launch/agree", "launch/mesh", "launch/pipe", "internal/generation"},
	"launch/agree":  nil,
	"launch/mesh":   nil,
	"launch/where":  nil,
	"launch/pipe":   nil,
	"shard":         nil,
	"objectives":    nil,
	"ddp":           {"nccl", "nccl/cuda", "internal/torch"},
	"nccl":          {"nccl/dl"},
	"nccl/cuda":     {"nccl/dl"},
	"nccl/dl":       nil,
	"nccl/loopback": nil, // the test double: tests alone import it
	"k8s":           nil,
	"slurm":         nil,
	"internal/train": {"ddp", "shard", "objectives", "internal/config", "internal/model", "internal/hf",
		"internal/checkpoint", "internal/torch"},
	"internal/model":      {"objectives", "internal/hf", "internal/torch"},
	"internal/checkpoint": {"internal/hf", "internal/generation"},
	"internal/generation": nil,
	"internal/config":     nil,
	"internal/hf":         nil,
	"internal/remote":     nil,
	"internal/torch":      nil,
	"internal/tokenizer":  nil,
	"internal/archtest":   nil,
	"scripts":             nil, // tests of the set-up
	"test/kit":            nil, // what those tests share
	"test/e2e":            nil, // tests of the built programs
	"test/nodes":          nil, // ... on several hosts
	"test/slurm":          nil, // ... on a real Slurm
}

// development holds programs that help to write this one and are no part of it.
var development = []string{"tools", "examples"}

// mayImportC lists the packages that may import "C".
var mayImportC = []string{"nccl", "nccl/cuda", "nccl/dl", "internal/torch", "internal/tokenizer"}

// onlyIn names modules that stay behind one package each.
var onlyIn = map[string]string{"github.com/sugarme/gotch": "internal/torch"}

// breaches returns what is wrong with package pkg's importing target, where pkg is a folder of the checkout and target an
// import path. Test files may import any package of ours (a pure one may be tested against another), but C where the
// package may.
func breaches(pkg, target string, inTest bool) string {
	if target == "C" {
		if !slices.Contains(mayImportC, pkg) {
			return `imports "C"; only ` + strings.Join(mayImportC, ", ") + " may"
		}
		return ""
	}
	for prefix, home := range onlyIn {
		if (target == prefix || strings.HasPrefix(target, prefix+"/")) && pkg != home {
			return "imports " + target + "; only " + home + " may"
		}
	}
	ours, found := strings.CutPrefix(target, module+"/")
	if !found || inTest || slices.Contains(mayImport[pkg], ours) {
		return ""
	}
	return "imports " + ours + "; the table lets it import " + listOr(mayImport[pkg], "nothing of ours")
}

func listOr(list []string, none string) string {
	if len(list) == 0 {
		return none
	}
	return strings.Join(list, ", ")
}

// goFile is one Go file of the checkout with what it imports.
type goFile struct {
	pkg     string // folder, as "internal/hf"
	name    string
	imports []string
}

// goFiles reads every Go file below dir that the go tool could compile under some build tags.
func goFiles(t *testing.T, dir string) []goFile {
	t.Helper()
	var files []goFile
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			if name != dir && (base == "testdata" || base == "vendor" || base[0] == '.' || base[0] == '_') {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(base) != ".go" || base[0] == '.' || base[0] == '_' {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(dir, filepath.Dir(name))
		if err != nil {
			return err
		}
		file := goFile{pkg: filepath.ToSlash(folder), name: base}
		for _, spec := range parsed.Imports {
			target, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			file.imports = append(file.imports, target)
		}
		files = append(files, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func isDevelopment(pkg string) bool {
	top, _, _ := strings.Cut(pkg, "/")
	return slices.Contains(development, top)
}

func TestImports(t *testing.T) {
	files := goFiles(t, root)
	if len(files) == 0 {
		t.Fatal("found no Go files")
	}
	unknown := map[string]bool{}
	for _, file := range files {
		if isDevelopment(file.pkg) {
			continue
		}
		if _, listed := mayImport[file.pkg]; !listed && !unknown[file.pkg] {
			unknown[file.pkg] = true
			t.Errorf("package %s is not in the table mayImport: say there what it may import", file.pkg)
		}
		for _, target := range file.imports {
			if wrong := breaches(file.pkg, target, strings.HasSuffix(file.name, "_test.go")); wrong != "" {
				t.Errorf("%s %s", path.Join(file.pkg, file.name), wrong)
			}
		}
	}
}

// The table may name packages that wait for their issue, but never one that another spelling has replaced: the parts of
// it agree.
func TestTableNamesItsOwnPackages(t *testing.T) {
	for pkg, targets := range mayImport {
		for _, target := range targets {
			if _, listed := mayImport[target]; !listed {
				t.Errorf("%s may import %s, which the table does not list", pkg, target)
			}
		}
	}
}

func TestBreaches(t *testing.T) {
	for _, c := range []struct {
		pkg, target string
		inTest      bool
		wrong       bool
	}{
		{"internal/hf", "os", false, false},
		{"internal/hf", module + "/internal/config", false, true},
		{"internal/hf", module + "/internal/config", true, false},
		{"internal/hf", "C", false, true},
		{"internal/hf", "C", true, true},
		{"internal/torch", "C", false, false},
		{"cmd/ddprun", module + "/internal/train", false, true},
		{"cmd/ddprun", module + "/launch/pipe", false, false},
		{"launch", module + "/launch/pipe", false, false},
		{"launch/pipe", module + "/launch", false, true},
		{"internal/model", "github.com/sugarme/gotch/libtch", false, true},
		{"internal/torch", "github.com/sugarme/gotch/libtch", false, false},
	} {
		if wrong := breaches(c.pkg, c.target, c.inTest); (wrong != "") != c.wrong {
			t.Errorf("%s importing %s (test file: %t): %q", c.pkg, c.target, c.inTest, wrong)
		}
	}
}

// TestCommandHasNoC holds cmd/ddprun to what it promises: whatever it imports, however deep, outside the standard library
// compiles without C, so it is one static file that needs no libtorch.
func TestCommandHasNoC(t *testing.T) {
	if _, err := os.Stat(filepath.Join(root, "cmd", "ddprun")); errors.Is(err, fs.ErrNotExist) {
		t.Skip("cmd/ddprun is not written yet")
	}
	list := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,CgoFiles", "./cmd/ddprun")
	list.Dir = root
	list.Env = append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := 0
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; packages++ {
		var pkg struct {
			ImportPath string
			Standard   bool
			CgoFiles   []string
		}
		if err := decoder.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if len(pkg.CgoFiles) > 0 && !pkg.Standard {
			t.Errorf("cmd/ddprun reaches %s, which has C in %s", pkg.ImportPath, strings.Join(pkg.CgoFiles, ", "))
		}
	}
	if packages == 0 {
		t.Error("go list named no package")
	}
}
