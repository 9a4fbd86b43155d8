package where

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
)

// world is what the three sources of a Resolver know.
type world struct {
	dns, getent, slurm map[string]string // name to addresses, separated by spaces
	asked              []string
}

func (w *world) resolver(slurm bool) Resolver {
	return Resolver{Slurm: slurm,
		lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			w.asked = append(w.asked, "dns")
			var found []netip.Addr
			for _, text := range strings.Fields(w.dns[host]) {
				found = append(found, netip.MustParseAddr(text))
			}
			if len(found) == 0 {
				return nil, errors.New("no such host")
			}
			return found, nil
		},
		run: func(_ context.Context, name string, args ...string) ([]byte, error) {
			w.asked = append(w.asked, name)
			host := args[len(args)-1]
			switch {
			case name == "getent" && w.getent[host] != "":
				out := ""
				for _, text := range strings.Fields(w.getent[host]) {
					out += fmt.Sprintf("%-15s STREAM %s\n%-15s DGRAM  \n", text, host, text)
				}
				return []byte(out), nil
			case name == "scontrol" && w.slurm[host] != "":
				return fmt.Appendf(nil, "NodeName=%s Arch=x86_64 NodeAddr=%s NodeHostName=%s Version=22.05.8\n", host, w.slurm[host], host), nil
			}
			return nil, errors.New(name + ": exit status 2")
		}}
}

func TestAddresses(t *testing.T) {
	w := &world{
		dns:    map[string]string{"known": "10.0.0.1 fd00::1", "self": "127.0.1.1", "only-me": "127.0.1.1", "localhost": "127.0.0.1 ::1", "renamed.x": "10.0.0.8"},
		getent: map[string]string{"ldap": "10.0.0.2", "self": "10.0.0.3"},
		slurm:  map[string]string{"cloud1": "10.0.0.4", "alias": "renamed.x", "loop": "loop"},
	}
	for _, c := range []struct{ host, want, asked string }{
		{"10.9.9.9", "[10.9.9.9]", ""},
		{"[fd00::9]", "[fd00::9]", ""},
		{"::ffff:10.9.9.9", "[10.9.9.9]", ""},
		{"known", "[10.0.0.1 fd00::1]", "dns"},
		{"localhost", "[127.0.0.1 ::1]", "dns"},
		{"ldap", "[10.0.0.2]", "dns getent"},
		{"self", "[10.0.0.3 127.0.1.1]", "dns getent"},
		{"only-me", "[127.0.1.1]", "dns getent scontrol"},
		{"cloud1", "[10.0.0.4]", "dns getent scontrol"},
		{"alias", "[10.0.0.8]", "dns getent scontrol dns"},
	} {
		w.asked = nil
		got, err := w.resolver(true).Addresses(t.Context(), c.host)
		if fmt.Sprint(got) != c.want || strings.Join(w.asked, " ") != c.asked || err != nil {
			t.Errorf("%s: %v, %v after %v; want %s after %s", c.host, got, err, w.asked, c.want, c.asked)
		}
	}
	for _, host := range []string{"nowhere", "loop", "", "-x", "a b", "x;y"} {
		if got, err := w.resolver(true).Addresses(t.Context(), host); err == nil {
			t.Errorf("%q: %v, want an error", host, got)
		}
	}
	if _, err := w.resolver(false).Addresses(t.Context(), "cloud1"); err == nil {
		t.Error("scontrol was asked outside of Slurm")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.resolver(true).Addresses(ended, "nowhere"); !errors.Is(err, context.Canceled) {
		t.Errorf("the end of the context: %v", err)
	}
}

// The machine's own getent is understood, and what is not there is an error that names who was asked.
func TestAddressesOfThisMachine(t *testing.T) {
	if _, err := exec.LookPath("getent"); err != nil {
		t.Skip("getent is not installed")
	}
	r := Resolver{lookup: func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("not asked") }}
	if got, err := r.Addresses(t.Context(), "localhost"); err != nil || !got[0].IsLoopback() {
		t.Errorf("localhost: %v, %v", got, err)
	}
	if _, err := r.Addresses(t.Context(), "no-such-host.invalid"); err == nil || !strings.Contains(err.Error(), "getent ahosts no-such-host.invalid") {
		t.Errorf("no-such-host.invalid: %v", err)
	}
}
