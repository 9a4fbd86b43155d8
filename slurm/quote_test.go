package slurm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// hostile are values that a wrong quote would let loose.
var hostile = []string{"", " ", "a b", "'", `"`, "'; touch pwned; '", "$(touch pwned)", "`touch pwned`", "${HOME}", "~", "~root", "*", "?", "[a]", "{a,b}", "a\tb", `\`, `\\`, `a\`, `\'`, `'\''`,
	"!x", "#x", "a#b", "-", "--", "-x", "a&b", "a|b", "a;b", "(a)", "<a", ">a", "%j", "%%", "\u00fc\u4e16", "=a", "a=b c", "$'x'", `$"x"`, "x=1", "&&", "EOF", "}", "]]", "\x7f", strings.Repeat("x", 5000)}

// randomText is made of the characters that mean something to bash, sbatch or nobody. Lines where they may be.
func randomText(r *rand.Rand, lines bool) string {
	characters := []rune(" '\"$`\\(){}[]<>|&;*?!#~%=-+,.:/@^_aZ09\t\u00e9")
	if lines {
		characters = append(characters, '\n', '\r')
	}
	text := make([]rune, r.IntN(12))
	for i := range text {
		text[i] = characters[r.IntN(len(characters))]
	}
	return string(text)
}

// Bash reads each word as what it was written from, and does nothing else with it.
func TestWord(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	values := append([]string{"a\nb", "\n", "a\rb"}, hostile...)
	for range 3000 {
		values = append(values, randomText(r, true))
	}
	var program strings.Builder
	for _, value := range values {
		fmt.Fprintf(&program, "printf '%%s\\0' %s\n", word(value))
	}
	bash := exec.Command("bash")
	bash.Dir = t.TempDir()
	bash.Stdin = strings.NewReader(program.String())
	out, err := bash.Output()
	if err != nil {
		t.Fatal(err)
	}
	got := bytes.Split(out, []byte{0})
	if len(got) != len(values)+1 {
		t.Fatalf("%d words, want %d", len(got)-1, len(values))
	}
	for i, value := range values {
		if string(got[i]) != value {
			t.Errorf("%q is read as %q from %s", value, got[i], word(value))
		}
	}
	if left, _ := os.ReadDir(bash.Dir); len(left) > 0 {
		t.Errorf("a word made %v", left)
	}
}

// unquoteDirective reads a line of #SBATCH as sbatch does (Slurm 22.05; test/slurm asks the real one).
func unquoteDirective(line string) (words []string) {
	var b strings.Builder
	var quote byte
	inWord := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && i+1 < len(line):
			i++
			b.WriteByte(line[i])
			inWord = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, inWord = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if inWord {
				words = append(words, b.String())
			}
			b.Reset()
			inWord = false
		case quote == 0 && c == '#':
			i = len(line)
		default:
			b.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, b.String())
	}
	return words
}

func TestDirective(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	values := hostile
	for range 3000 {
		values = append(values, randomText(r, false))
	}
	for _, value := range values {
		if strings.ContainsAny(value, "\x7f\t") { // refused
			continue
		}
		if got := unquoteDirective(directive("--comment=" + value)); len(got) != 1 || got[0] != "--comment="+value {
			t.Fatalf("%q is read as %q", value, got)
		}
	}
}

// Whatever the values, the script has no finding of shellcheck, and its variables hold them.
func TestScriptOfHostileValues(t *testing.T) {
	shellcheck, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Log("shellcheck is not installed (apt install shellcheck): what it would find is not asked")
	}
	r := rand.New(rand.NewPCG(5, 6))
	pick := func() string {
		if r.IntN(2) == 0 {
			return hostile[r.IntN(len(hostile))]
		}
		return randomText(r, true)
	}
	line := func() string {
		return strings.Map(func(c rune) rune {
			if c < ' ' || c == 0x7f {
				return '.'
			}
			return c
		}, pick())
	}
	for range 6 {
		j := testJob()
		j.Name, j.Partition, j.Account = line(), line(), line()
		j.MinNodes = 1 + r.IntN(2)
		j.Directory, j.Config, j.OutputDir = "/"+pick(), "/"+pick(), "/"+pick()
		j.Sets, j.AgentArgs = []string{pick(), pick()}, []string{pick()}
		j.Srun = []string{"--x=" + pick()}
		j.Log = "/" + strings.ReplaceAll(line(), `\`, "")
		text, err := j.Script()
		if err != nil {
			t.Fatal(err)
		}
		if shellcheck != "" {
			check := exec.Command(shellcheck, "-")
			check.Stdin = strings.NewReader(text)
			if out, err := check.CombinedOutput(); err != nil {
				t.Fatalf("%s\n%s", out, text)
			}
		}
		// The head of the script, then what it knows.
		head, _, found := strings.Cut(text, "\nown=")
		if !found {
			t.Fatal("the script has no such line")
		}
		bash := exec.Command("bash")
		bash.Dir = t.TempDir()
		bash.Stdin = strings.NewReader(head + "\nprintf '%s\\0' \"$directory\" \"$output_dir\" \"$config\" \"${step[@]}\" \"${agent[@]}\"\n")
		out, err := bash.Output()
		if err != nil {
			t.Fatal(err)
		}
		want := append([]string{j.Directory, j.OutputDir, j.Config}, append(j.Step(), j.Agent()...)...)
		if got := strings.Join(want, "\x00") + "\x00"; got != string(out) {
			t.Errorf("got %q\nwant %q", out, got)
		}
	}
}
