package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// listenHost returns the IP address to listen on; empty: all.
func (m *Mesh) listenHost() (string, error) {
	text := m.config.Listen
	if text == "" {
		return "", nil
	}
	ip, err := parseOrInterface(text)
	if err != nil {
		return "", fmt.Errorf("mesh: --listen %s: %w", text, err)
	}
	if ip.IsUnspecified() {
		return "", nil
	}
	return ip.String(), nil
}

// parseOrInterface returns an address as it stands, or that of an interface.
func parseOrInterface(text string) (netip.Addr, error) {
	if ip, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return ip.Unmap(), nil
	}
	dev, err := net.InterfaceByName(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("neither an IP address nor an interface of this node (%s)", interfaceNames())
	}
	list, err := dev.Addrs()
	if err != nil {
		return netip.Addr{}, err
	}
	ips := usable(list, true)
	if len(ips) == 0 {
		return netip.Addr{}, errors.New("the interface has no address that others could reach")
	}
	return ips[0], nil
}

func interfaceNames() string {
	devs, _ := net.Interfaces()
	var names []string
	for _, d := range devs {
		names = append(names, d.Name)
	}
	return strings.Join(names, ", ")
}

// usable picks the addresses that others may reach, IPv4 first: not link-local ones, which mean another node on each link.
func usable(list []net.Addr, loopback bool) []netip.Addr {
	var ips []netip.Addr
	for _, a := range list {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		ip := prefix.Addr().Unmap()
		if ip.IsGlobalUnicast() || (loopback && ip.IsLoopback()) {
			ips = append(ips, ip)
		}
	}
	slices.SortStableFunc(ips, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return ips
}

// ownAddresses returns the addresses of this node at which others may reach it, without loopback.
func ownAddresses() ([]netip.Addr, error) {
	devs, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("mesh: interfaces of this node: %w", err)
	}
	var all []net.Addr
	for _, d := range devs {
		if d.Flags&net.FlagUp == 0 || d.Flags&net.FlagLoopback != 0 {
			continue
		}
		list, err := d.Addrs()
		if err != nil {
			continue // it has just gone
		}
		all = append(all, list...)
	}
	return usable(all, false), nil
}

// chooseAddress returns the IP address at which others reach this node. What is named counts; else the node's only one; else the one from
// which it reaches the nodes to join; else the one that its host name means; else that of the default route.
func (m *Mesh) chooseAddress(ctx context.Context, listen string) (string, error) {
	if text := m.config.Advertise; text != "" {
		return m.namedAddress(ctx, text)
	}
	if listen != "" {
		return listen, nil
	}
	own, err := ownAddresses()
	if err != nil {
		return "", err
	}
	switch len(own) {
	case 0:
		return "", errors.New("mesh: this node has no address but loopback, so other nodes cannot reach it: connect it, or name an address with --advertise")
	case 1:
		return own[0].String(), nil
	}
	if ip, ok := m.towardsJoin(ctx, own); ok {
		return ip.String(), nil
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if ip, ok := m.byHostName(ctx, own); ok {
		return ip.String(), nil
	}
	for _, far := range []string{"192.0.2.1", "2001:db8::1"} { // addresses of documentation: only the route is looked up
		if ip, ok := sourceOf(far); ok && slices.Contains(own, ip) {
			return ip.String(), nil
		}
	}
	return own[0].String(), nil
}

// namedAddress is the address that Config.Advertise means.
func (m *Mesh) namedAddress(ctx context.Context, text string) (string, error) {
	ip, err := parseOrInterface(text)
	if err != nil {
		hosts, lookup := m.lookup(ctx, text)
		if lookup != nil {
			return "", fmt.Errorf("mesh: --advertise %s: %w; nor a host name: %w", text, err, lookup)
		}
		ip = netip.MustParseAddr(hosts[0])
		if ip.IsLoopback() && text != "localhost" {
			return "", fmt.Errorf("mesh: --advertise %s: on this node the name means %s, where others cannot reach it: name the address itself", text, ip)
		}
	}
	switch {
	case ip.IsUnspecified():
		return "", fmt.Errorf("mesh: --advertise %s: not an address of one node", text)
	case ip.IsLinkLocalUnicast():
		return "", fmt.Errorf("mesh: --advertise %s: a link-local address means another node on each link: name another one", text)
	}
	return ip.String(), nil
}

// knownNameWait is how long a node waits for further names to resolve where one does already: the others may mean nodes that are gone for good.
const knownNameWait = 10 * time.Second

// towardsJoin is the address from which this node reaches the first other node of Config.Join that resolves. It waits for a name that does not resolve yet,
// since this node may have just started before its neighbours' names are known.
func (m *Mesh) towardsJoin(ctx context.Context, own []netip.Addr) (netip.Addr, bool) {
	deadline := time.Now().Add(m.config.JoinTimeout)
	known := false
	for pause := seekMin; ; pause = min(2*pause, seekMax) {
		unresolved := ""
		entries := make([]looked, len(m.config.Join))
		for found := range m.lookupJoin(ctx) {
			entries[found.entry] = found
		}
		for _, found := range entries {
			if found.err != nil {
				unresolved = found.err.Error()
				continue
			}
			if soon := time.Now().Add(knownNameWait); !known && soon.Before(deadline) {
				deadline = soon
			}
			known = true
			for _, target := range found.hosts {
				to := netip.MustParseAddr(target)
				if slices.Contains(own, to) {
					return to, true // this node is the one to join, at this address
				}
				if to.IsLoopback() {
					continue // a host name that means 127.0.1.1: this node
				}
				if from, ok := sourceOf(target); ok && slices.Contains(own, from) {
					return from, true
				}
			}
		}
		if unresolved == "" || time.Now().After(deadline) {
			return netip.Addr{}, false
		}
		m.bounded(zerolog.InfoLevel, "address").Str("reason", unresolved).Msg("waiting for the name of a node to join, to know which address of this node it can reach; --advertise names one")
		select {
		case <-time.After(jitter(pause)):
		case <-ctx.Done():
			return netip.Addr{}, false
		}
	}
}

// byHostName is the own address that this node's host name means.
func (m *Mesh) byHostName(ctx context.Context, own []netip.Addr) (netip.Addr, bool) {
	name, err := os.Hostname()
	if err != nil {
		return netip.Addr{}, false
	}
	hosts, err := m.lookup(ctx, name)
	if err != nil {
		return netip.Addr{}, false
	}
	for _, host := range hosts {
		if ip := netip.MustParseAddr(host); slices.Contains(own, ip) {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// sourceOf is the address from which this node would send to target. Nothing is sent.
func sourceOf(target string) (netip.Addr, bool) {
	conn, err := net.Dial("udp", net.JoinHostPort(target, "9"))
	if err != nil {
		return netip.Addr{}, false
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), true
}
