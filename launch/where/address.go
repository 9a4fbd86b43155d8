package where

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// SplitAddress reads HOST, HOST:PORT, an IPv6 address, or [IPv6]:PORT; without a port it is port.
func SplitAddress(address string, port int) (host string, at int, err error) {
	host, at = address, port
	bare := address
	if strings.HasPrefix(address, "[") && strings.HasSuffix(address, "]") {
		bare = address[1 : len(address)-1]
	}
	if ip, err := netip.ParseAddr(bare); err == nil {
		return ip.String(), port, nil
	}
	if strings.Contains(address, ":") {
		var text string
		if host, text, err = net.SplitHostPort(address); err != nil {
			return "", 0, fmt.Errorf("%q: want HOST, HOST:PORT or [IPv6]:PORT", address)
		}
		if at, err = strconv.Atoi(text); err != nil || at < 1 || at > maxPort {
			return "", 0, fmt.Errorf("%q: want a port from 1 to %d", address, maxPort)
		}
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.String(), at, nil
	}
	if !isHost(host) {
		return "", 0, fmt.Errorf("%q: %q is no name of a host", address, host)
	}
	return host, at, nil
}

// isHost says whether name can be a host's: nothing that a resolver, or a command to which it is handed, could take for more.
func isHost(name string) bool {
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return name != "" && len(name) <= 253 && name[0] != '-'
}
