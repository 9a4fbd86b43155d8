package nodes

import (
	"net"

	"github.com/vishvananda/netlink"
)

// must fails the test of a host with an error of the harness.
func (h *host) must(what string, err error) {
	h.c.t.Helper()
	if err != nil {
		h.c.t.Fatalf("%s: %s: %v", h.name, what, err)
	}
}

// cut takes the host's cable out, as `ip link set down` at the switch does; plug puts it in again.
func (h *host) cut() {
	h.c.t.Helper()
	port, err := h.c.net.LinkByName(h.port())
	h.must("cut", err)
	h.must("cut", h.c.net.LinkSetDown(port))
}

func (h *host) plug() {
	h.c.t.Helper()
	port, err := h.c.net.LinkByName(h.port())
	h.must("plug", err)
	h.must("plug", h.c.net.LinkSetUp(port))
}

// nobody is a hardware address that no host has.
var nobody = net.HardwareAddr{0x02, 0, 0, 0, 0xff, 0xff}

// lose has everything that the host sends to another lost on the way, silently: frames go to a hardware address that nobody has. The way back
// works. find ends it.
func (h *host) lose(to *host) {
	h.c.t.Helper()
	h.must("lose", h.net.NeighSet(h.neighbour(to)))
}

func (h *host) find(to *host) {
	h.c.t.Helper()
	h.must("find", h.net.NeighDel(h.neighbour(to)))
}

func (h *host) neighbour(other *host) *netlink.Neigh {
	link, err := h.net.LinkByName(cableName)
	h.must("neighbour", err)
	return &netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: other.ip, HardwareAddr: nobody}
}

// cutPair has all packets between two hosts lost; both talk to everybody else. joinPair ends it.
func cutPair(a, b *host) {
	a.c.t.Helper()
	a.lose(b)
	b.lose(a)
}

func joinPair(a, b *host) {
	a.c.t.Helper()
	a.find(b)
	b.find(a)
}

// readdress gives the host an address that none has had, takes the old one, and tells all: connections over the old one are dead.
func (h *host) readdress() {
	h.c.t.Helper()
	old := h.ip
	h.ip = address(h.c.made)
	h.c.made++
	link, err := h.net.LinkByName(cableName)
	h.must("readdress", err)
	h.must("readdress", h.net.AddrDel(link, &netlink.Addr{IPNet: &net.IPNet{IP: old, Mask: net.CIDRMask(16, 32)}}))
	h.must("readdress", h.setAddress(h.ip))
	h.c.name()
}

// replace adds a host that takes over h's name at another address, whether h is still there or not.
func (h *host) replace() *host {
	h.c.t.Helper()
	h.replaced = true
	return h.c.add(h.name)
}
