package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLogBeginsAnew(t *testing.T) {
	const max = 1000
	for name, chunk := range map[string]int{"by lines": 0, "by pieces of lines": 7, "by many lines": 333} {
		path := filepath.Join(t.TempDir(), "stdout.log")
		l, err := createLog(path, max)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&text, "line %d\n", i)
			if chunk == 0 {
				err = l.write(fmt.Appendf(nil, "line %d\n", i))
			}
		}
		for rest := text.String(); chunk > 0 && rest != "" && err == nil; rest = rest[min(chunk, len(rest)):] {
			err = l.write([]byte(rest[:min(chunk, len(rest))]))
		}
		if l.close(); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(path + ".1")
		now, _ := os.ReadFile(path)
		both := string(before) + string(now)
		if !strings.HasSuffix(text.String(), both) || !strings.HasPrefix(both, "line ") || !strings.HasPrefix(string(now), "line ") {
			t.Errorf("%s: there are %.20q and %.20q", name, before, now)
		}
		if len(before) < max/2 || len(before) > max+10 || len(now) > max+10 {
			t.Errorf("%s: %d and %d bytes", name, len(before), len(now))
		}
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 2 {
			t.Errorf("%s: %v", name, entries)
		}
	}
}

func TestLineLongerThanALog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stderr.log")
	l, err := createLog(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if err := l.write([]byte(strings.Repeat("x", 64))); err != nil {
			t.Fatal(err)
		}
	}
	l.close()
	for _, name := range []string{path, path + ".1"} {
		if info, err := os.Stat(name); err != nil || info.Size() > 200 || info.Size() == 0 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
}

func TestWorkersLogsAreBounded(t *testing.T) {
	dir := t.TempDir()
	_, out, _ := runScripts(t, agentConfig{NProc: 1, LogDir: dir, Scripts: scripts{{"lines 20000; done"}}}, func(c *Config) { c.LogMaxSize = 10000 })
	if strings.Count(out, "\n") != 20000 {
		t.Errorf("%d lines are shown", strings.Count(out, "\n"))
	}
	for _, name := range []string{"stdout.log", "stdout.log.1"} {
		log, err := os.ReadFile(filepath.Join(dir, "attempt_0", "0", name))
		if err != nil || len(log) > 10100 || len(log) == 0 || !strings.HasPrefix(string(log), "line ") {
			t.Errorf("%s: %d bytes, %v", name, len(log), err)
		}
	}
	if log, _ := os.ReadFile(filepath.Join(dir, "attempt_0", "0", "stdout.log")); !strings.HasSuffix(string(log), "line 19999\n") {
		t.Errorf("the newest log ends with %q", log[max(0, len(log)-20):])
	}
}
