package smarthost

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"
)

// security says how a connection to a next hop is protected.
type security int

const (
	opportunistic security = iota // STARTTLS when offered
	startTLS                      // STARTTLS or nothing
	implicitTLS
)

// hop is one next hop with the connections that are kept to it.
type hop struct {
	network, addr string // "tcp" and host:port, or "unix" and the path of a socket
	host          string // "" for a socket
	lmtp          bool   // RFC 2033, not SMTP
	security      security

	mu    sync.Mutex
	last  time.Time // when it was tried last
	vain  int       // tries of Watch in vain, since it worked
	until time.Time // left alone until then
	kept  []*kept   // the one used last stands last
}

func parseURL(raw string) (*hop, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// url.Parse's error repeats the URL, which may hold a password.
		return nil, fmt.Errorf("smarthost URL cannot be read; want e.g. smtp://mail.example.org:25")
	}
	h := &hop{network: "tcp", host: u.Hostname()}
	port := u.Port()
	usual := ""
	switch u.Scheme {
	case "smtp":
		h.security, usual = opportunistic, "25"
	case "smtp+starttls":
		h.security, usual = startTLS, "587"
	case "smtps":
		h.security, usual = implicitTLS, "465"
	case "lmtp":
		h.lmtp, usual = true, "24"
	case "lmtp+unix":
		if u.User != nil || u.Host != "" || !strings.HasPrefix(u.Path, "/") || strings.HasSuffix(u.Path, "/") || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("smarthost URL: want lmtp+unix:///PATH")
		}
		return &hop{network: "unix", addr: u.Path, lmtp: true}, nil
	default:
		return nil, fmt.Errorf("smarthost URL scheme %q: want smtp, smtp+starttls, smtps, lmtp or lmtp+unix", u.Scheme)
	}
	if u.User != nil {
		return nil, fmt.Errorf("smarthost URL for %s: user and password have keys of their own", u.Host)
	}
	if h.host == "" || !isPlain(h.host) || strings.ContainsAny(h.host, "[]") || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		// Not repeated either: "smtp:user:password@host" has slipped into the wrong place.
		return nil, fmt.Errorf("smarthost URL: want %s://HOST or %s://HOST:PORT", u.Scheme, u.Scheme)
	}
	if port == "" {
		port = usual
	}
	h.addr = net.JoinHostPort(h.host, port)
	return h, nil
}

// heard takes down what came of a try: until when h is to be left alone; the zero time says that it works.
func (h *hop) heard(now, until time.Time) {
	h.mu.Lock()
	h.last, h.until = now, until
	if until.IsZero() {
		h.vain = 0
	}
	h.mu.Unlock()
}

// state returns whether h worked when it was tried last, when that was, and how often Watch has tried in vain since.
func (h *hop) state() (works bool, last time.Time, vain int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.until.IsZero(), h.last, h.vain
}

func (h *hop) resting(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return now.Before(h.until)
}

// take returns the kept connection that was used last, or nil.
func (h *hop) take() *kept {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.kept)
	if n == 0 {
		return nil
	}
	k := h.kept[n-1]
	h.kept = h.kept[:n-1]
	k.expire.Stop()
	return k
}

// drop takes k out and reports whether it was still there.
func (h *hop) drop(k *kept) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.kept {
		if h.kept[i] == k {
			h.kept = append(h.kept[:i], h.kept[i+1:]...)
			return true
		}
	}
	return false
}
