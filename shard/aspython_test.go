package shard

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mutations is how many inputs are compared.
func mutations() int {
	if os.Getenv("DDPRUN_TEST_ALL") != "" {
		return 50000
	}
	return 4000
}

// askPython runs a script with inputs as JSON on standard input, and reads its JSON.
func askPython[T any](t *testing.T, script string, inputs any) (answers T) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no Python to compare with: ", err)
	}
	in, err := json.Marshal(inputs)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", script)
	cmd.Stdin = strings.NewReader(string(in))
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("%v\n%s", err, exit.Stderr)
	}
	if err := json.Unmarshal(out, &answers); err != nil {
		t.Fatal(err)
	}
	return answers
}

// Lines with bytes changed at random are what Python's json.loads makes of them.
func TestJSONMutatedAsPython(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	seeds := []string{`{"text": "a\u00e4\ud83d\ude00\n", "b": [1, -2.5e3, {"text": "no"}], "c": {"d": null}}`, `{"b": true, "te\u0078t": "x\\\"", "text": "y"}`,
		`{"text":"\ud800\udc00\udc00\ud800"}`, `{"a":NaN,"text":"z","d":[[],{}],"e":-Infinity}`}
	const hot = `{}[],:"\u0123456789abdeEntrfx+-. ` + "\t\x1f\x7f"
	var lines []string
	for range mutations() {
		b := []byte(seeds[r.IntN(len(seeds))])
		for range r.IntN(4) {
			at := r.IntN(len(b))
			switch r.IntN(3) {
			case 0:
				b[at] = hot[r.IntN(len(hot))]
			case 1:
				b = slices.Insert(b, at, hot[r.IntN(len(hot))])
			default:
				b = slices.Delete(b, at, min(len(b), at+1+r.IntN(3)))
			}
			if len(b) == 0 {
				break
			}
		}
		if line := string(b); strings.TrimSpace(line) != "" && !strings.Contains(line, `\u0000`) {
			lines = append(lines, line)
		}
	}
	want := askPython[[]string](t, `
import json, sys
def text(line):
    try: v = json.loads(line)
    except ValueError: return "bad JSON"
    if not isinstance(v, dict): return "bad JSON"
    if v.get("text") is None: return "no field"
    if not isinstance(v["text"], str): return "not a string"
    try: return "text " + v["text"].encode().hex()
    except UnicodeEncodeError: return "not UTF-8"
print(json.dumps([text(line) for line in json.load(sys.stdin)]))`, lines)
	for i, line := range lines {
		docs, bad := readAll(t, "x.jsonl", []byte(line), readOptions{}, readings["whole"])
		var got string
		switch {
		case len(docs) == 1 && len(bad) == 0:
			got = "text " + hex.EncodeToString([]byte(docs[0].text))
		case len(docs) == 0 && len(bad) == 1:
			got = string(bad[0].Reason)
		}
		raw, isText := strings.CutPrefix(want[i], "text ")
		if b, _ := hex.DecodeString(raw); isText {
			want[i] = "text " + hex.EncodeToString([]byte(recordText(b)))
		}
		if got != want[i] {
			t.Fatalf("%s: %s; Python has %s", line, got, want[i])
		}
	}
}

// Tables of few characters in any order are what Python's csv module makes of them, but for records of another length and quotes without
// an end, which are bad.
func TestCSVMutatedAsPython(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	var tables []string
	for range mutations() {
		var b strings.Builder
		b.WriteString([]string{"text\n", "a,text\r\n", "text,b\n", "\"text\",\"b\"\r"}[r.IntN(4)])
		for range r.IntN(24) {
			b.WriteString([]string{"a", "b", ",", ",", "\"", "\"", "\"\"", "\n", "\r\n", "\r", " ", "\t"}[r.IntN(12)])
		}
		tables = append(tables, b.String())
	}
	want := askPython[[][][]string](t, `
import csv, io, json, sys
print(json.dumps([list(csv.reader(io.StringIO(t, newline=""))) for t in json.load(sys.stdin)]))`, tables)
	for i, table := range tables {
		rows := slices.DeleteFunc(want[i], func(row []string) bool { return len(row) == 0 })
		column := slices.Index(rows[0], "text")
		d := newDocReader(newMemoryFile([]byte(table), readings["whole"]), "x.csv", 0, readOptions{})
		for n, row := range rows[1:] {
			doc, err := d.next()
			var bad *BadRecord
			if errors.As(err, &bad) && bad.Reason == ReasonBadCSV && (len(row) != len(rows[0]) || n == len(rows)-2 && strings.Contains(bad.Detail, "no end")) {
				continue
			}
			if err != nil || len(row) != len(rows[0]) || doc.text != recordText([]byte(row[column])) {
				t.Fatalf("%q: record %d is %q, %v; Python has %q", table, n+1, doc.text, err, row)
			}
		}
		if doc, err := d.next(); err != io.EOF {
			t.Fatalf("%q: %q, %v behind the last record", table, doc.text, err)
		}
	}
}
