package checkpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestPrune(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit int
		keep  []string
		torn  []int64
		want  []int64
	}{
		{"no limit", 0, nil, nil, []int64{5, 10, 20, 30}},
		{"negative", -1, nil, nil, []int64{5, 10, 20, 30}},
		{"below the limit", 9, nil, nil, []int64{5, 10, 20, 30}},
		{"two", 2, nil, nil, []int64{20, 30}},
		{"one", 1, nil, nil, []int64{30}},
		{"best is kept beyond the limit", 1, []string{"somewhere/checkpoint-10"}, nil, []int64{10, 30}},
		{"best counts", 2, []string{"checkpoint-10"}, nil, []int64{10, 30}},
		{"best is the newest", 2, []string{"checkpoint-30"}, nil, []int64{20, 30}},
		{"best is gone", 1, []string{"checkpoint-7"}, nil, []int64{30}},
		{"newest is torn", 1, nil, []int64{30}, []int64{20}},
		{"newest two are torn", 2, nil, []int64{20, 30}, []int64{10, 30}},
		{"all are torn", 1, nil, []int64{5, 10, 20, 30}, []int64{5, 10, 20, 30}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := t.TempDir()
			mustSave(t, out, 5, 10, 20, 30)
			for _, step := range c.torn {
				if err := os.Truncate(filepath.Join(out, Name(step), modelFile), 50); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Mkdir(filepath.Join(out, "checkpoint-1"), 0o755); err != nil { // another program's
				t.Fatal(err)
			}
			if err := Prune(out, c.limit, 3, c.keep...); err != nil {
				t.Fatal(err)
			}
			want := []string{privateDir, "checkpoint-1"}
			for _, step := range c.want {
				want = append(want, Name(step))
			}
			slices.Sort(want)
			wantNames(t, out, want...)
			wantNames(t, filepath.Join(out, privateDir))
		})
	}
}

func TestPruneNamesWhatItCannotDelete(t *testing.T) {
	out := t.TempDir()
	mustSave(t, out, 5, 10)
	hookSteps(t, func(name string) {
		if name == "discard: may write" {
			if err := os.Remove(filepath.Join(out, privateDir)); err != nil {
				t.Error(err)
			}
		}
	})
	err := Prune(out, 1, 3)
	if want := fmt.Sprintf("%s was not deleted", filepath.Join(out, "checkpoint-5")); err == nil ||
		!slices.Contains(names(t, out), "checkpoint-5") || len(err.Error()) < len(want) || err.Error()[:len(want)] != want {
		t.Errorf("error %v", err)
	}
}

// hookSteps calls f between any two operations on files until the test ends.
func hookSteps(t testing.TB, f func(name string)) {
	before := between
	between = f
	t.Cleanup(func() { between = before })
}
