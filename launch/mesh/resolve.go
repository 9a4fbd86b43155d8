package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	lookupTimeout = 5 * time.Second // for Go's resolver, and for Config.Resolve
	lookupsAtOnce = 16
)

// looked is what became of looking for the host of an entry of Config.Join.
type looked struct {
	entry int // of Config.Join
	hosts []string
	err   error
}

// lookupJoin looks for the hosts of all entries of Config.Join at once, and tells of each when it is known: a name that does not resolve, which can take long, holds up no other. The
// channel is closed after the last one.
func (m *Mesh) lookupJoin(ctx context.Context) <-chan looked {
	results := make(chan looked, len(m.config.Join))
	slots := make(chan struct{}, lookupsAtOnce)
	var all sync.WaitGroup
	for i, entry := range m.config.Join {
		host, _ := splitJoin(entry, 0)
		all.Go(func() {
			slots <- struct{}{}
			hosts, err := m.lookup(ctx, host)
			<-slots
			results <- looked{i, hosts, err}
		})
	}
	go func() {
		all.Wait()
		close(results)
	}()
	return results
}

// lookup returns the IP addresses of host, IPv4 first, as Go's resolver or else Config.Resolve knows them.
func (m *Mesh) lookup(ctx context.Context, host string) ([]string, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []string{ip.Unmap().String()}, nil
	}
	bounded, cancel := context.WithTimeout(ctx, lookupTimeout)
	ips, err := net.DefaultResolver.LookupNetIP(bounded, "ip", host)
	cancel()
	if (err != nil || len(ips) == 0) && m.config.Resolve != nil {
		bounded, cancel := context.WithTimeout(ctx, lookupTimeout)
		texts, other := m.config.Resolve(bounded, host)
		cancel()
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
