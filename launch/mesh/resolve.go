package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

const lookupTimeout = 5 * time.Second

// lookup returns the IP addresses of host, IPv4 first, as Go's resolver or else Config.Resolve knows them.
func (m *Mesh) lookup(ctx context.Context, host string) ([]string, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []string{ip.Unmap().String()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if (err != nil || len(ips) == 0) && m.config.Resolve != nil {
		texts, other := m.config.Resolve(ctx, host)
		if other != nil {
			return nil, fmt.Errorf("name %s: %w", host, errors.Join(err, other))
		}
		ips, err = nil, nil
		for _, text := range texts {
			ip, bad := netip.ParseAddr(text)
			if bad != nil {
				return nil, fmt.Errorf("name %s: %w", host, bad)
			}
			ips = append(ips, ip)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("name %s: %w", host, err)
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("name %s: no address", host)
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	slices.SortStableFunc(ips, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	var list []string
	for _, ip := range slices.Compact(ips) {
		list = append(list, ip.String())
	}
	return list, nil
}
