package launch

import (
	"fmt"
	"strings"
	"testing"
)

func TestRepeats(t *testing.T) {
	for in, want := range map[string]string{
		"a b c":             "a b c",
		"a a b":             "a a b",
		"a a a a b b c c c": "a (last line repeated 3 times) b b c (last line repeated 2 times)",
		"":                  "",
		"  ":                " (last line repeated 2 times)",
	} {
		var r repeats
		var shown []string
		show := func(line []byte) { shown = append(shown, string(line)) }
		for _, line := range strings.Split(in, " ") {
			r.line([]byte(line), show)
		}
		r.flush(show)
		if got := strings.Join(shown, " "); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestFloodOfOneLineIsCounted(t *testing.T) {
	const n = 100000
	outcome, _, errOut := runScripts(t, agentConfig{NProc: 1, Scripts: scripts{{fmt.Sprintf("warn %d; raw \"end\\n\"; exit 3", n)}}}, nil)
	want := fmt.Sprintf("[rank 0] the same\n[rank 0] (last line repeated %d times)\n[rank 0] end\n", n-1)
	if errOut != want {
		t.Errorf("shown: %.200q, want %q", errOut, want)
	}
	if f := outcome.Failure; f == nil || len(f.LastLines) != 3 {
		t.Errorf("%+v", f)
	}
}
