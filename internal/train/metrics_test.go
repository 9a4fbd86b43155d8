package train

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/config"
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
		job := &Job{Config: &config.Config{OutputDir: t.TempDir()}}
		path := filepath.Join(job.Config.OutputDir, metricsName)
		writeFile(t, path, earlier)
		late, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0) // an earlier generation's
		if err != nil {
			t.Fatal(err)
		}
		defer late.Close()
		m, err := openMetrics(job, c.step)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := late.WriteString("late\n"); err != nil {
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
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 2 {
			t.Errorf("%v lies there", entries)
		}
	}
}

func TestMetricsOfARunThatHasNone(t *testing.T) {
	dir := t.TempDir()
	m, err := openMetrics(&Job{Config: &config.Config{OutputDir: dir}}, 7)
	if err != nil {
		t.Fatal(err)
	}
	m.close()
	if _, err := openMetrics(&Job{Config: &config.Config{OutputDir: filepath.Join(dir, metricsName)}}, 0); err == nil {
		t.Error("a file was opened below a file")
	}
}
