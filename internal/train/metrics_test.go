package train

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMetricsGoOn(t *testing.T) {
	const earlier = `{"step":0,"eval_loss":3}
{"step":1,"loss":2}
{"step":2,"loss":1.5}
{"step":2,"eval_loss":2.5}
{"step":2,"train_runtime":9}
{"step":3,"loss":1.25}
no JSON
{"epoch":1}
{"step":2,"lo`
	for _, c := range []struct {
		step int64
		want string
	}{
		{0, ""},
		{1, `{"step":0,"eval_loss":3}
{"step":1,"loss":2}
`},
		{2, `{"step":0,"eval_loss":3}
{"step":1,"loss":2}
{"step":2,"loss":1.5}
{"step":2,"eval_loss":2.5}
`},
	} {
		path := filepath.Join(t.TempDir(), "metrics.jsonl")
		writeFile(t, path, earlier)
		m, err := openMetrics(path, c.step)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.write(map[string]any{"step": c.step + 1, "loss": 0.5}); err != nil {
			t.Fatal(err)
		}
		if err := m.close(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(string(got), "\n")
		if kept := strings.Join(lines[:len(lines)-2], ""); kept != c.want {
			t.Errorf("after step %d there is\n%swant\n%s", c.step, kept, c.want)
		}
		if last := lines[len(lines)-2]; !strings.HasPrefix(last, `{"loss":0.5,"step":`) {
			t.Errorf("the new line is %q", last)
		}
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
			t.Errorf("%d files beside metrics.jsonl", len(entries)-1)
		}
	}
}

func TestMetricsOfARunThatHasNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "metrics.jsonl")
	m, err := openMetrics(path, 7)
	if err != nil {
		t.Fatal(err)
	}
	m.close()
	if _, err := openMetrics(filepath.Join(path, "metrics.jsonl"), 0); err == nil {
		t.Error("a file was opened below a file")
	}
}
