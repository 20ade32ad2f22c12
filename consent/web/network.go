package web

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// network says from which network a request came, as the history keeps it and the limits count it:
// 24 bits of an IPv4 address, 48 of an IPv6 address, which name a provider's customers and no single
// one. It is the zero Prefix where that is not known or is this machine.
// A peer in trusted is a proxy, see Client.
func network(r *http.Request, trusted []netip.Prefix) netip.Prefix {
	from := Client(r, trusted)
	if !from.IsValid() || from.IsLoopback() {
		return netip.Prefix{}
	}
	bits := 24
	if from.Is6() {
		bits = 48
	}
	p, _ := from.Prefix(bits)
	return p
}

// Client returns the address that a request came from, the zero Addr where that is not known.
//
// A peer in trusted is a proxy: the address is the last one in X-Forwarded-For, or in Forwarded
// (RFC 7239), that is no such proxy itself. What stands before that could be anybody's invention;
// so could all of one of the two where both are there, and then neither is believed.
func Client(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil { // a unix socket
		return netip.Addr{}
	}
	from := peer.Addr().Unmap()
	hops := forwardedFor(r.Header)
	for i := len(hops) - 1; i >= 0 && isIn(from, trusted); i-- {
		hop, ok := parseHop(hops[i])
		if !ok {
			break
		}
		from = hop
	}
	return from
}

func isIn(a netip.Addr, networks []netip.Prefix) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// forwardedFor returns the addresses that proxies noted, the first being the farthest.
func forwardedFor(h http.Header) []string {
	x, forwarded := h.Values("X-Forwarded-For"), h.Values("Forwarded")
	switch {
	case len(x) > 0 && len(forwarded) > 0:
		return nil
	case len(x) > 0:
		return strings.Split(strings.Join(x, ","), ",")
	case len(forwarded) == 0:
		return nil
	}
	var hops []string
	for element := range strings.SplitSeq(strings.Join(forwarded, ","), ",") {
		hop := ""
		for pair := range strings.SplitSeq(element, ";") {
			if name, value, _ := strings.Cut(strings.TrimSpace(pair), "="); strings.EqualFold(name, "for") {
				hop = strings.Trim(value, `"`)
			}
		}
		hops = append(hops, hop)
	}
	return hops
}

// parseHop reads an address, with or without a port; an IPv6 address may stand in brackets.
func parseHop(hop string) (netip.Addr, bool) {
	hop = strings.TrimSpace(hop)
	if a, err := netip.ParseAddrPort(hop); err == nil {
		return a.Addr().WithZone("").Unmap(), true
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(hop, "["), "]"))
	return a.WithZone("").Unmap(), err == nil
}
