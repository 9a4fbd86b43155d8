package k8s

import (
	"bufio"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// dockerfile parses k8s/Dockerfile as docker build does, and fails the test at each warning of its linter.
func dockerfile(t *testing.T) []instructions.Stage {
	t.Helper()
	file, err := os.Open("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	parsed, err := parser.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range parsed.Warnings {
		t.Errorf("Dockerfile: %s", w.Short)
	}
	stages, _, err := instructions.Parse(parsed.AST, linter.New(&linter.Config{
		Warn: func(rule, description, _, message string, at []parser.Range) {
			t.Errorf("Dockerfile:%d: %s: %s (%s)", at[0].Start.Line, rule, message, description)
		},
	}))
	if err != nil {
		t.Fatal(err)
	}
	return stages
}

// TestDockerfile: what it copies is there, its stages follow each other, and what comes out runs as the manifests' user.
func TestDockerfile(t *testing.T) {
	stages := dockerfile(t)
	var names, layers []string
	user, entry, workdir := "", "", ""
	for i, stage := range stages {
		last := i == len(stages)-1
		for _, command := range stage.Commands {
			switch c := command.(type) {
			case *instructions.CopyCommand:
				if c.From != "" && !slices.Contains(names, c.From) {
					t.Errorf("COPY --from=%s: no stage before is called so", c.From)
				}
				for _, source := range c.SourcePaths {
					if _, err := os.Stat(filepath.Join("..", source)); c.From == "" && err != nil {
						t.Errorf("COPY %s: %v", source, err)
					}
					if last {
						layers = append(layers, c.From+":"+source)
					}
				}
			case *instructions.RunCommand:
				for script := range strings.FieldsSeq(strings.Join(c.CmdLine, " ")) {
					if strings.HasPrefix(script, "scripts/") {
						if info, err := os.Stat(filepath.Join("..", script)); err != nil || info.Mode()&0o111 == 0 {
							t.Errorf("RUN %s: %v", script, err)
						}
					}
				}
			case *instructions.UserCommand:
				user = c.User
			case *instructions.WorkdirCommand:
				workdir = c.Path
			case *instructions.EntrypointCommand:
				entry = strings.Join(c.CmdLine, " ")
			}
		}
		names = append(names, stage.Name)
	}
	o := Defaults()
	if user != "1000:1000" || o.User != 1000 || entry != "ddprun" || command(&o)[0] != "ddprun" || workdir != o.Mount {
		t.Errorf("the image's user is %s, it starts %s in %s; the manifests have user %d, %s, %s", user, entry, workdir, o.User, command(&o)[0], o.Mount)
	}
	// libtorch is one layer, below the programs.
	if want := []string{"build:/runtime/opt", "build:/runtime/usr/local/bin"}; !slices.Equal(layers, want) {
		t.Errorf("the last stage copies %q, want %q", layers, want)
	}
	// What is linked in one Debian runs in the same one.
	if build, final := stages[len(stages)-2].BaseName, stages[len(stages)-1].BaseName; release(build) == "" || release(build) != release(final) {
		t.Errorf("built in %s, run in %s", build, final)
	}
}

// release is the name of Debian's release in an image's tag.
func release(image string) string {
	return regexp.MustCompile(`bookworm|trixie|forky`).FindString(image)
}

// TestDockerfileTools: Go and Rust are of the versions that the sources ask for, or later.
func TestDockerfileTools(t *testing.T) {
	for _, c := range []struct{ file, pattern, image string }{
		{"../go.mod", `(?m)^go (\d+\.\d+)`, "golang"},
		{"../internal/tokenizer/rust/Cargo.toml", `(?m)^rust-version = "(\d+\.\d+)`, "rust"},
	} {
		text, err := os.ReadFile(c.file)
		if err != nil {
			t.Fatal(err)
		}
		need := regexp.MustCompile(c.pattern).FindSubmatch(text)
		found := false
		for _, stage := range dockerfile(t) {
			name, tag, _ := strings.Cut(stage.BaseName, ":")
			if path.Base(name) != c.image {
				continue
			}
			found = true
			have, _, _ := strings.Cut(tag, "-")
			if need == nil || len(have) < len(need[1]) || have < string(need[1]) {
				t.Errorf("%s is older than the %s of %s", stage.BaseName, need[1], c.file)
			}
		}
		if !found {
			t.Errorf("no stage is from %s", c.image)
		}
	}
}

// TestDockerignore: what was built in a checkout stays out of the image, by the same names as out of git.
func TestDockerignore(t *testing.T) {
	lines := func(path string) (list []string) {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for s := bufio.NewScanner(file); s.Scan(); {
			if line := s.Text(); line != "" && line[0] != '#' {
				list = append(list, strings.Trim(strings.TrimPrefix(line, "**/"), "/"))
			}
		}
		return list
	}
	git, docker := lines("../.gitignore"), lines("Dockerfile.dockerignore")
	slices.Sort(git)
	slices.Sort(docker)
	if !slices.Equal(git, docker) {
		t.Errorf(".gitignore has %q, Dockerfile.dockerignore %q", git, docker)
	}
}
