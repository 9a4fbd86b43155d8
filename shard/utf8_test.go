package shard

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"unicode/utf8"
)

// What Python 3.11's decode(errors="replace") makes of each.
var replaceCases = []struct{ in, out string }{
	{"plain", "plain"},
	{"caf\xe9", "caf\uFFFD"},
	{"caf\xe9s", "caf\uFFFDs"},
	{"\xc0\xaf", "\uFFFD\uFFFD"},
	{"\xe0\x80\xaf", "\uFFFD\uFFFD\uFFFD"},
	{"\xe0\xa0", "\uFFFD"},
	{"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", "\uFFFD\uFFFD\uFFFD\uFFFDA"}, // Unicode 16.0, table 3-11
	{"\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD"},                                // a surrogate
	{"\xf0\x90\x80", "\uFFFD"},
	{"\xf0\x80\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
	{"\xf4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
	{"\xf4\x8f\xbf\xbf", "\U0010FFFF"},
	{"\xf5\x80", "\uFFFD\uFFFD"},
	{"\x80\xbf\xff", "\uFFFD\uFFFD\uFFFD"},
	{"a\xe2\x82\xacb\xe2\x82c", "a\u20acb\uFFFDc"},
	{"\xef\xbf\xbd", "\uFFFD"}, // already there: valid
}

func TestReplace(t *testing.T) {
	for _, c := range replaceCases {
		got, n := appendReplaced(nil, []byte(c.in))
		if string(got) != c.out {
			t.Errorf("%q: got %q, want %q", c.in, got, c.out)
		}
		if (n == 0) != utf8.ValidString(c.in) {
			t.Errorf("%q: %d replaced", c.in, n)
		}
	}
}

// randomBytes favours the bytes that matter.
func randomBytes(r *rand.Rand, n int) []byte {
	const hot = "\x00A\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef\xf0\xf1\xf3\xf4\xf5\xff"
	b := make([]byte, n)
	for i := range b {
		if b[i] = hot[r.IntN(len(hot))]; r.IntN(8) == 0 {
			b[i] = byte(r.Uint32())
		}
	}
	return b
}

// DDPRUN_PYTHON names a Python to compare with; without one, a python3 on the path.
func TestReplaceAsPython(t *testing.T) {
	python := os.Getenv("DDPRUN_PYTHON")
	if python == "" {
		python = "python3"
	}
	if _, err := exec.LookPath(python); err != nil {
		t.Skip("no Python to compare with: ", err)
	}
	in := randomBytes(rand.New(rand.NewPCG(1, 2)), 1<<20)
	path := t.TempDir() + "/in"
	writeFile(t, path, string(in))
	want, err := exec.Command(python, "-c", `import sys
sys.stdout.buffer.write(open(sys.argv[1],"rb").read().decode("utf-8","replace").encode())`, path).Output()
	if err != nil {
		t.Fatal(err)
	}
	got, _ := appendReplaced(nil, in)
	if string(got) != string(want) {
		t.Errorf("differs from Python: %d bytes and %d bytes", len(got), len(want))
	}
}
