package relay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
)

// The PROXY protocol, versions 1 and 2, of
// https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt: a header before all else, in which a
// balancer says whose connection it hands on.

var (
	proxyV2 = []byte("\r\n\r\n\x00\r\nQUIT\n") // §2.2
	proxyV1 = []byte("PROXY ")

	errProxy = errors.New("no PROXY header")
	errMute  = fmt.Errorf("%w: it was closed without a word", errProxy) // as a balancer's check does that only connects
)

const (
	maxProxyV1 = 107     // §2.1, with its CRLF
	maxProxyV2 = 4 << 10 // behind the fixed part; addresses take 216, the rest is for extensions
)

// readProxy reads a PROXY header from r, and no byte more. The address is the zero Addr where the
// header names nobody: UNKNOWN, LOCAL (a balancer's health check), a socket that is not of TCP.
func readProxy(r io.Reader) (netip.Addr, error) {
	begin := make([]byte, len(proxyV2))
	if n, err := io.ReadFull(r, begin[:len(proxyV1)]); n == 0 && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
		return netip.Addr{}, errMute
	} else if err != nil {
		return netip.Addr{}, fmt.Errorf("%w: %w", errProxy, err)
	}
	if bytes.Equal(begin[:len(proxyV1)], proxyV1) {
		return readProxyV1(r)
	}
	if !bytes.HasPrefix(proxyV2, begin[:len(proxyV1)]) {
		return netip.Addr{}, errProxy
	}
	if _, err := io.ReadFull(r, begin[len(proxyV1):]); err != nil {
		return netip.Addr{}, fmt.Errorf("%w: %w", errProxy, err)
	}
	if !bytes.Equal(begin, proxyV2) {
		return netip.Addr{}, errProxy
	}
	return readProxyV2(r)
}

// readProxyV1 reads what follows "PROXY ": "TCP4 192.0.2.1 198.51.100.1 56324 25\r\n".
func readProxyV1(r io.Reader) (netip.Addr, error) {
	var line []byte
	for one := make([]byte, 1); !bytes.HasSuffix(line, []byte("\r\n")); {
		if len(line) >= maxProxyV1-len(proxyV1) {
			return netip.Addr{}, fmt.Errorf("%w: its line is too long", errProxy)
		}
		if _, err := io.ReadFull(r, one); err != nil {
			return netip.Addr{}, fmt.Errorf("%w: %w", errProxy, err)
		}
		line = append(line, one[0])
	}
	text := string(line[:len(line)-2])
	if text == "UNKNOWN" || strings.HasPrefix(text, "UNKNOWN ") { // what follows is to be ignored
		return netip.Addr{}, nil
	}
	words := strings.Split(text, " ")
	if len(words) != 5 || words[0] != "TCP4" && words[0] != "TCP6" {
		return netip.Addr{}, fmt.Errorf("%w: not the words that it consists of", errProxy)
	}
	for _, port := range words[3:] {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return netip.Addr{}, fmt.Errorf("%w: its ports are none", errProxy)
		}
	}
	var from netip.Addr
	for _, word := range []string{words[2], words[1]} {
		a, err := netip.ParseAddr(word)
		if err != nil || a.Zone() != "" || a.Is4() != (words[0] == "TCP4") {
			return netip.Addr{}, fmt.Errorf("%w: its addresses are none", errProxy)
		}
		from = a
	}
	return from.Unmap(), nil
}

// readProxyV2 reads what follows the signature.
func readProxyV2(r io.Reader) (netip.Addr, error) {
	var fixed [4]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return netip.Addr{}, fmt.Errorf("%w: %w", errProxy, err)
	}
	size := int(binary.BigEndian.Uint16(fixed[2:]))
	if fixed[0]>>4 != 2 || size > maxProxyV2 {
		return netip.Addr{}, fmt.Errorf("%w: version %d, %d bytes", errProxy, fixed[0]>>4, size)
	}
	rest := make([]byte, size)
	if _, err := io.ReadFull(r, rest); err != nil {
		return netip.Addr{}, fmt.Errorf("%w: %w", errProxy, err)
	}
	switch fixed[0] & 15 {
	case 0: // LOCAL
		return netip.Addr{}, nil
	case 1: // PROXY
	default:
		return netip.Addr{}, fmt.Errorf("%w: command %d", errProxy, fixed[0]&15)
	}
	switch fixed[1] {
	case 0x11: // TCP over IPv4: two addresses, two ports
		if size >= 12 {
			return netip.AddrFrom4([4]byte(rest[:4])), nil
		}
	case 0x21: // TCP over IPv6
		if size >= 36 {
			return netip.AddrFrom16([16]byte(rest[:16])).Unmap(), nil
		}
	default:
		return netip.Addr{}, nil
	}
	return netip.Addr{}, fmt.Errorf("%w: too short for its addresses", errProxy)
}
