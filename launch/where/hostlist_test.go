package where

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestHostlist(t *testing.T) {
	for _, c := range []struct{ expression, want string }{
		{"gpu[01-04,07]", "gpu01 gpu02 gpu03 gpu04 gpu07"},
		{"node1", "node1"},
		{"a[9-11]", "a9 a10 a11"},
		{"a[009-10]", "a009 a010"},
		{"a[1-2]b[3-4]", "a1b3 a1b4 a2b3 a2b4"},
		{"n[0-1]x[0-1]y[0-1]", "n0x0y0 n0x0y1 n1x0y0 n1x0y1 n0x1y0 n0x1y1 n1x1y0 n1x1y1"},
		{"a[1-2][3-4]", "a13 a14 a23 a24"},
		{"[1-3]", "1 2 3"},
		{"a[1-3,2]", "a1 a2 a3 a2"},
		{"a,a", "a a"},
		{",a,,b c\td,", "a b c d"},
		{"10.0.0.[1-2]", "10.0.0.1 10.0.0.2"},
		{"gpu[1-2]-ib.x.org,login", "gpu1-ib.x.org gpu2-ib.x.org login"}, // the suffix older scontrols refuse
		{"r[1-2]n[08-10],x", "r1n08 r1n09 r1n10 r2n08 r2n09 r2n10 x"},
	} {
		hosts, err := Hostlist(c.expression)
		if got := strings.Join(hosts, " "); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.expression, got, err, c.want)
		}
	}
}

func TestHostlistRefuses(t *testing.T) {
	for _, expression := range []string{"", ",", "a[", "a]", "a[]", "a[1", "a[1-2", "a[[1]]", "a[1]]", "a[1-]", "a[-1]", "a[2-1]", "a[x]", "a[1,]", "a[ 1]",
		"a[+1]", "a[1-2-3]", "a[0-65536]", "a[0-9999999999]", "a[0-255]b[0-256]", "a[0-65535],b", "a[1-99999999999999999999]",
		strings.Repeat("a", 1025), "a[0-999999999].b[0-9]"} {
		if hosts, err := Hostlist(expression); err == nil {
			t.Errorf("%.40q: %d hosts, want an error", expression, len(hosts))
		}
	}
	if hosts, err := Hostlist("a[0-65535]"); err != nil || len(hosts) != 65536 {
		t.Errorf("a[0-65535]: %d hosts, %v", len(hosts), err)
	}
}

// scontrol returns how the real scontrol reads an expression, or an error; it needs no cluster for that, only a configuration.
func scontrol(t *testing.T) func(expression string) ([]string, error) {
	t.Helper()
	program, err := exec.LookPath("scontrol")
	if err != nil {
		t.Skip("scontrol is not installed (apt-get install slurm-client): host lists are not compared with Slurm's own reading")
	}
	conf := filepath.Join(t.TempDir(), "slurm.conf")
	if err := os.WriteFile(conf, []byte("ClusterName=x\nSlurmctldHost=x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return func(expression string) ([]string, error) {
		cmd := exec.Command(program, "--", "show", "hostnames", expression)
		cmd.Env = append(os.Environ(), "SLURM_CONF="+conf)
		out, err := cmd.Output()
		if err == nil && len(strings.Fields(string(out))) == 0 { // it complains on standard error and exits with 0
			err = errors.New("refused")
		}
		return strings.Fields(string(out)), err
	}
}

// randomHostlist writes an expression of 1 to 4 elements with 0 to 3 brackets each, as scontrol takes them: no suffix.
func randomHostlist(r *rand.Rand) string {
	prefixes := []string{"", "a", "gpu", "n-", "rack", "x.y", "node0", "b_", "dgx-a100-"}
	number := func() string { return fmt.Sprintf("%0*d", 1+r.IntN(4), r.IntN(130)) }
	var elements []string
	for range 1 + r.IntN(4) {
		var b strings.Builder
		brackets := r.IntN(4)
		for range brackets {
			b.WriteString(prefixes[r.IntN(len(prefixes))])
			var spans []string
			for range 1 + r.IntN(3) {
				low := r.IntN(120)
				width := 1 + r.IntN(4)
				span := fmt.Sprintf("%0*d", width, low)
				if r.IntN(2) == 0 {
					span += fmt.Sprintf("-%0*d", 1+r.IntN(4), low+r.IntN(4))
				}
				spans = append(spans, span)
			}
			fmt.Fprintf(&b, "[%s]", strings.Join(spans, ","))
		}
		if brackets == 0 {
			b.WriteString(prefixes[1+r.IntN(len(prefixes)-1)])
			if r.IntN(2) == 0 {
				b.WriteString(number())
			}
		}
		elements = append(elements, b.String())
	}
	return strings.Join(elements, ",")
}

// Valid expressions are read as the real scontrol reads them; of damaged ones, what is taken is read so too.
func TestHostlistAsScontrol(t *testing.T) {
	ask := scontrol(t)
	n := 700
	if os.Getenv("DDPRUN_TEST_ALL") == "1" {
		n = 20000
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	refused := 0
	for i := range n {
		expression := randomHostlist(r)
		damaged := i%4 == 3
		if damaged {
			at := r.IntN(len(expression))
			expression = expression[:at] + string("[],-0 x"[r.IntN(7)]) + expression[at+r.IntN(2):]
		}
		got, err := Hostlist(expression)
		want, wantErr := ask(expression)
		switch {
		case damaged && err != nil:
			refused++
		case damaged && wantErr != nil && hasSuffix(expression):
		case err != nil || wantErr != nil || !slices.Equal(got, want):
			t.Fatalf("%q:\ngot  %q, %v\nwant %q, %v", expression, got, err, want, wantErr)
		}
	}
	t.Logf("%d expressions read as scontrol does, %d damaged ones refused", n-refused, refused)
}

// hasSuffix tells whether text follows the last bracket of an element, which the scontrol of Slurm 22.05 refuses.
func hasSuffix(expression string) bool {
	elements, _ := splitHostlist(expression)
	return slices.ContainsFunc(elements, func(e string) bool {
		at := strings.LastIndex(e, "]")
		return at >= 0 && at < len(e)-1
	})
}

func FuzzHostlist(f *testing.F) {
	for _, expression := range []string{"gpu[01-04,07]", "a[1-2]b[3-4]c", "a[", "a,,b", "[0-65535]", "a[0-255][0-255][0-255]"} {
		f.Add(expression)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		hosts, err := Hostlist(expression)
		if err == nil && (len(hosts) == 0 || len(hosts) > maxHosts) {
			t.Fatalf("%q: %d hosts", expression, len(hosts))
		}
		for _, host := range hosts {
			if host == "" || strings.ContainsAny(host, "[], ") {
				t.Fatalf("%q: host %q", expression, host)
			}
		}
	})
}
