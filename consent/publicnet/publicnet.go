// Package publicnet keeps the gateway from connecting to anything but the public internet, whatever
// a name in mail resolves to: not to this machine, its networks, or a cloud's metadata service.
//
// Control goes into a net.Dialer. It sees the address that is about to be connected to, behind DNS,
// so that a name which resolves differently the second time gains nothing, and a redirect neither.
//
// It is not for choosing ports, and no use behind an HTTP proxy, which would connect by itself.
package publicnet

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// ErrNotPublic is wrapped by Control's error, which names the address.
var ErrNotPublic = errors.New("not an address of the public internet")

// Control is the Control of a net.Dialer that may only connect to public addresses, by TCP.
func Control(network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%w: %s", ErrNotPublic, network)
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil || !IsPublic(at.Addr()) {
		return fmt.Errorf("%w: %s", ErrNotPublic, address)
	}
	return nil
}

// IsPublic reports whether an address is global unicast and of no special purpose (RFC 6890 and the registries
// of IANA). An IPv6 address that stands for an IPv4 one is judged by that; one of a transition mechanism that
// relays to private addresses is not public.
func IsPublic(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	if nat64.Contains(a) { // RFC 6052 §2.1
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	if a.Is6() && !global6.Contains(a) {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return a.IsGlobalUnicast()
}

var (
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	global6 = netip.MustParsePrefix("2000::/3") // all that is given out, RFC 4291 §2.4
)

// special is what is in the registries of special-purpose addresses and not globally reachable.
var special = func() []netip.Prefix {
	var all []netip.Prefix
	for _, p := range []string{
		"0.0.0.0/8",       // this network, RFC 791 §3.2
		"10.0.0.0/8",      // private, RFC 1918
		"100.64.0.0/10",   // of providers, RFC 6598
		"127.0.0.0/8",     // this machine, RFC 1122 §3.2.1.3
		"169.254.0.0/16",  // link-local, RFC 3927; metadata services of clouds
		"172.16.0.0/12",   // private
		"192.0.0.0/24",    // protocol assignments, RFC 6890 §2.1
		"192.0.2.0/24",    // examples, RFC 5737
		"192.88.99.0/24",  // 6to4 relays, RFC 7526
		"192.168.0.0/16",  // private
		"198.18.0.0/15",   // benchmarks, RFC 2544
		"198.51.100.0/24", // examples
		"203.0.113.0/24",  // examples
		"224.0.0.0/4",     // multicast, RFC 5771
		"240.0.0.0/4",     // reserved, RFC 1112 §4; broadcast
		"2001::/23",       // protocol assignments, RFC 2928: Teredo, ORCHID, benchmarks
		"2001:db8::/32",   // examples, RFC 3849
		"2002::/16",       // 6to4, RFC 3056
		"3fff::/20",       // examples, RFC 9637
	} {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}()
