package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestPruneAttempts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "[logs]*")
	for n := range 12 {
		rank := filepath.Join(dir, fmt.Sprint("attempt_", n), "0")
		if err := os.MkdirAll(rank, 0o777); err != nil {
			t.Fatal(err)
		}
		if n == 2 || n == 4 || n == 9 {
			os.WriteFile(filepath.Join(rank, "error.json"), nil, 0o666)
		}
	}
	os.Mkdir(filepath.Join(dir, "attempt_3_mine"), 0o777) // somebody else's
	for _, c := range []struct {
		keep int
		want []string
	}{
		{20, []string{"attempt_0", "attempt_1", "attempt_10", "attempt_11", "attempt_2", "attempt_3", "attempt_3_mine", "attempt_4", "attempt_5", "attempt_6", "attempt_7", "attempt_8", "attempt_9"}},
		{4, []string{"attempt_10", "attempt_11", "attempt_2", "attempt_3_mine", "attempt_8", "attempt_9"}},
		{1, []string{"attempt_11", "attempt_2", "attempt_3_mine"}},
	} {
		if err := pruneAttempts(dir, 11, c.keep); err != nil {
			t.Fatal(err)
		}
		entries, _ := os.ReadDir(dir)
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		if !slices.Equal(names, c.want) {
			t.Errorf("keep %d: %q", c.keep, names)
		}
	}
}

func TestOldAttemptsGo(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		runScripts(t, agentConfig{NProc: 1, LogDir: dir, Scripts: scripts{{"done"}}}, func(c *Config) { c.LogMaxAttempts = 2 })
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 || entries[0].Name() != "attempt_1" {
		t.Errorf("%v", entries)
	}
}
