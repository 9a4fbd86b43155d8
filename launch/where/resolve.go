package where

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"time"
)

// askTimeout bounds each command that is asked.
const askTimeout = 5 * time.Second

// Resolver finds the addresses of hosts by name. Go's own resolver reads /etc/hosts and asks DNS; a name that it does not know, or
// knows as this machine alone, is asked of getent, which knows whatever the system is set up for (LDAP, NIS, mDNS), and in Slurm of scontrol,
// which knows its nodes' addresses where nobody else does. The zero Resolver asks Go and getent.
type Resolver struct {
	Slurm bool // ask scontrol too

	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	run    func(ctx context.Context, name string, args ...string) ([]byte, error)
}

// NewResolver is the resolver for an environment.
func NewResolver(env []string) Resolver {
	return Resolver{Slurm: environment(env).tell("SLURM_JOB_ID")}
}

// Addresses returns the addresses of host, an address or a name, best first. A machine often knows its own name as 127.0.1.1, which no
// other one can use: addresses of the loopback come only where nobody knows others.
func (r Resolver) Addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	if !isHost(host) {
		return nil, fmt.Errorf("%q is no name of a host", host)
	}
	asks := []func(context.Context, string) ([]netip.Addr, error){r.ask, r.getent}
	if r.Slurm {
		asks = append(asks, r.scontrol)
	}
	var local []netip.Addr
	var errs []error
	for _, ask := range asks {
		found, err := ask(ctx, host)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("find the address of %s: %w", host, err)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var usable []netip.Addr
		for _, ip := range found {
			if ip = ip.Unmap(); !ip.IsLoopback() {
				usable = append(usable, ip)
			} else {
				local = append(local, ip)
			}
		}
		if len(usable) > 0 || host == "localhost" && len(local) > 0 {
			return append(usable, local...), nil
		}
	}
	if len(local) > 0 {
		return local, nil
	}
	return nil, fmt.Errorf("find the address of %s: %w", host, errors.Join(errs...))
}

// ask asks Go's resolver.
func (r Resolver) ask(ctx context.Context, host string) ([]netip.Addr, error) {
	if r.lookup != nil {
		return r.lookup(ctx, host)
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// getent asks the system's name service: lines of an address, a kind of socket and perhaps a name.
func (r Resolver) getent(ctx context.Context, host string) ([]netip.Addr, error) {
	out, err := r.command(ctx, "getent", "ahosts", host)
	if err != nil {
		return nil, err
	}
	var found []netip.Addr
	seen := map[netip.Addr]bool{}
	for line := range bytes.Lines(out) {
		fields := bytes.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if ip, err := netip.ParseAddr(string(fields[0])); err == nil && !seen[ip] {
			seen[ip] = true
			found = append(found, ip)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("getent ahosts %s: no address", host)
	}
	return found, nil
}

// scontrol asks Slurm's controller for the address of a node, which may again be a name.
func (r Resolver) scontrol(ctx context.Context, host string) ([]netip.Addr, error) {
	out, err := r.command(ctx, "scontrol", "--oneliner", "show", "node", host)
	if err != nil {
		return nil, err
	}
	for _, field := range strings.Fields(string(out)) {
		address, found := strings.CutPrefix(field, "NodeAddr=")
		if !found || address == "(null)" {
			continue
		}
		if ip, err := netip.ParseAddr(address); err == nil {
			return []netip.Addr{ip}, nil
		}
		if address == host || !isHost(address) {
			break
		}
		if ips, err := r.ask(ctx, address); err == nil {
			return ips, nil
		}
		return r.getent(ctx, address)
	}
	return nil, fmt.Errorf("scontrol show node %s: no address", host)
}

// command runs a program and returns what it says; its complaint is the error.
func (r Resolver) command(ctx context.Context, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if r.run != nil {
		return r.run(ctx, name, args...)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		said, _, _ := strings.Cut(strings.TrimSpace(complaint.String()), "\n")
		if len(said) > 200 {
			said = said[:200]
		}
		return nil, fmt.Errorf("%s: %w %s", strings.Join(append([]string{name}, args...), " "), err, said)
	}
	return out, nil
}
