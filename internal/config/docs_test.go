package config

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

const preamble = "# The configuration: train.yaml\n\n" +
	"<!-- Written from internal/config/config.go by: go test ./internal/config -update -->\n\n" +
	"One flat YAML file of at most 1 MiB holds the whole configuration. Names and meanings are those of TrainingArguments in\n" +
	"transformers 5 wherever one exists; the tables below say where ddprun differs.\n\n" +
	"    model: models/bert\n    data: corpus/*.txt\n    eval_data: heldout.txt\n    output_dir: runs/first\n    learning_rate: 1e-4\n\n" +
	"Three layers lie over the defaults; the later one wins: the file, variables named `" + EnvPrefix + "<KEY>` (such as\n`" + EnvPrefix +
	"LEARNING_RATE`), and `--set key=value`, any number of times. Values of variables and flags are read as YAML, so lists\n" +
	"(`--set 'data=[a.txt, b.txt]'`) and maps work; where a key wants text, the value is taken as it stands.\n" +
	"`ddprun --print-config train.yaml` prints every key with its value and where that comes from.\n\n" +
	"Relative paths are relative to the working directory, as Trainer's are; a leading `~/` is the home directory. An unknown key, a\n" +
	"wrong type or an impossible combination is an error that names the line (exit code 78), before anything starts or is written.\n" +
	"Old names are taken and what became of them is logged.\n\n" +
	"In the column *Resume*, *yes* marks the keys that may change when a run is resumed; any other change is refused.\n"

// headings name the groups of fields that blank lines separate in config.go.
var headings = []string{"Model and output", "Text", "Objective", "Batches", "Length", "Learning rate and optimizer",
	"Randomness", "Evaluation and logging", "Checkpoints", "Devices and communication"}

func TestDocumentationIsInStep(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "configuration.md")
	want := documentation(t)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is behind config.go; run: go test ./internal/config -update", path)
	}
}

func documentation(t *testing.T) string {
	var out strings.Builder
	out.WriteString(preamble)
	groups := fieldComments(t)
	if len(groups) != len(headings) {
		t.Fatalf("config.go has %d groups of fields, but there are %d headings", len(groups), len(headings))
	}
	for i, group := range groups {
		fmt.Fprintf(&out, "\n## %s\n\n| Key | Values | Default | Resume | Meaning |\n|---|---|---|---|---|\n", headings[i])
		for _, doc := range group {
			out.WriteString(row(doc))
		}
	}
	out.WriteString("\n## Other names\n\nTaken, with a line in the log:\n\n| Key | Becomes |\n|---|---|\n")
	for _, key := range slices.Sorted(maps.Keys(renamed)) {
		target := "nothing: it is how ddprun works, or makes no difference to it"
		if renamed[key] != "" {
			target = "`" + renamed[key] + "`"
		}
		fmt.Fprintf(&out, "| `%s` | %s |\n", key, target)
	}
	out.WriteString("\nKeys of Trainer that are not available yet. At Trainer's default they are ignored, else refused:\n\n")
	for _, key := range slices.Sorted(maps.Keys(trainerOnly)) {
		fmt.Fprintf(&out, "- `%s`\n", key)
	}
	return out.String()
}

type fieldDoc struct{ key, text string }

// fieldComments returns the keys of Config with their comments, in the groups of config.go.
func fieldComments(t *testing.T) [][]fieldDoc {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	structure := file.Scope.Lookup("Config").Decl.(*ast.TypeSpec).Type.(*ast.StructType)
	var groups [][]fieldDoc
	last := 0
	for _, f := range structure.Fields.List {
		if f.Doc == nil {
			t.Fatalf("%s has no comment", f.Names[0])
		}
		if files.Position(f.Doc.Pos()).Line > last+1 {
			groups = append(groups, nil)
		}
		last = files.Position(f.End()).Line
		key := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json")
		text := strings.Join(strings.Fields(f.Doc.Text()), " ")
		groups[len(groups)-1] = append(groups[len(groups)-1], fieldDoc{key, text})
	}
	return groups
}

func row(doc fieldDoc) string {
	f := fieldOf[doc.key]
	value := reflect.ValueOf(Default()).Elem().Field(f.index)
	values, standard := "", ""
	switch value.Interface().(type) {
	case Strings:
		values = "text or list"
	case Data:
		values = "text, list or list of maps"
	case EvalData:
		values = "text, list or map"
	case LRSchedulerKwargs:
		values = "map"
	case string:
		values, standard = "text", value.String()
	case bool:
		values, standard = "true, false", fmt.Sprint(value)
	case float64:
		values, standard = "number", fmt.Sprint(value)
	default:
		values, standard = "whole number", fmt.Sprint(value)
	}
	if f.enum != nil {
		values = strings.TrimPrefix(strings.Join(f.enum, ", "), ", ")
	}
	if strings.Contains(doc.text, "Default: ") {
		standard = "" // it follows from other keys
	}
	resume := ""
	if f.resume {
		resume = "yes"
	}
	line := "|"
	for _, cell := range []string{"`" + doc.key + "`", values, standard, resume, doc.text} {
		line += strings.TrimRight(" "+cell, " ") + " |"
	}
	return line + "\n"
}
