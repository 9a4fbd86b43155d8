package train

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ddprun/ddprun/internal/config"
)

func TestCutSampleLogs(t *testing.T) {
	const line1, line2, line3 = `{"step":1,"lane":0,"numbers":[4]}` + "\n", `{"step":2,"lane":0,"numbers":[7]}` + "\n", `{"step":3,"lane":0,"numbers":[1]}` + "\n"
	for _, c := range []struct {
		name, content string
		step          int64
		want          string // empty: the file is gone
	}{
		{"all", line1 + line2, 2, line1 + line2},
		{"later steps", line1 + line2 + line3, 1, line1},
		{"from the start", line1 + line2, 0, ""},
		{"a line cut short", line1 + line2[:9], 2, line1},
		{"behind a line cut short", line1 + line2[:9] + line3, 3, line1},
		{"nothing whole", line1[:7], 5, ""},
		{"empty", "", 5, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			job := &Job{Config: &config.Config{OutputDir: t.TempDir()}}
			dir := filepath.Join(job.Config.OutputDir, samplesDir)
			if err := os.Mkdir(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "rank-1.jsonl")
			writeFile(t, path, c.content)
			writeFile(t, filepath.Join(dir, "notes.txt"), "not ours")
			late, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0) // an earlier generation's
			if err != nil {
				t.Fatal(err)
			}
			defer late.Close()
			if err := cutSampleLogs(job, c.step); err != nil {
				t.Fatal(err)
			}
			if _, err := late.WriteString(line3); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if string(got) != c.want || os.IsNotExist(err) != (c.want == "") {
				t.Errorf("left %q, %v", got, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "notes.txt")); err != nil {
				t.Error(err)
			}
		})
	}
	if err := cutSampleLogs(&Job{Config: &config.Config{OutputDir: filepath.Join(t.TempDir(), "nowhere")}}, 1); err != nil {
		t.Errorf("without a log: %v", err)
	}
}
