package outbox

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

const (
	callTime      = 15 * time.Second // for a whole call
	maxAnswer     = 64 << 10         // bytes of an answer that are read, so that a connection can be used again
	maxRetryAfter = time.Hour        // that is believed
)

// webhookClient calls the operator's own address, which may be private. What is sent without TLS never leaves
// the private networks, whatever the name turns out to be.
func webhookClient(address string) *http.Client {
	allowed := func(netip.Addr) bool { return true }
	if u, err := url.Parse(address); err == nil && u.Scheme == "http" {
		allowed = func(a netip.Addr) bool { return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() }
	}
	return client(allowed, nil, webhookCalls)
}

// chainClient calls addresses that stand in senders' mail. roots is for tests; nil are the system's.
func chainClient(allowed func(netip.Addr) bool, roots *x509.CertPool) *http.Client {
	return client(allowed, roots, 0)
}

// client asks no proxy, follows no redirect, keeps no cookie, and connects only where allowed says so of the
// address that the name has at that moment.
func client(allowed func(netip.Addr) bool, roots *x509.CertPool, idle int) *http.Client {
	dialer := &net.Dialer{Timeout: callTime, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || !allowed(to.Addr().Unmap().WithZone("")) {
			return errNotPublic
		}
		return nil
	}}
	return &http.Client{
		Timeout:       callTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots},
			ForceAttemptHTTP2:      true,
			DisableCompression:     true,
			DisableKeepAlives:      idle == 0,
			MaxIdleConnsPerHost:    idle,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: maxAnswer,
		},
	}
}

const notPublic = "not a public address"

var errNotPublic = errors.New(notPublic)

// do makes a call and says what came of it, in words without the address.
func do(c *http.Client, req *http.Request) answer {
	resp, err := c.Do(req)
	if err != nil {
		a := answer{said: kindOf(err)}
		a.outage = a.said != notPublic
		return a
	}
	defer resp.Body.Close()
	io.CopyN(io.Discard, resp.Body, maxAnswer) // what it says counts, not how
	a := answer{said: strconv.Itoa(resp.StatusCode), done: resp.StatusCode/100 == 2}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		a.outage = true
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
			a.after = min(time.Duration(min(seconds, 1<<20))*time.Second, maxRetryAfter)
		}
	}
	return a
}

// kindOf names an error. Its own text would hold the address.
func kindOf(err error) string {
	var name *net.DNSError
	var timeout net.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errNotPublic):
		return notPublic
	case errors.As(err, &name) && name.IsNotFound:
		return "no such host"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.As(err, &certificate):
		return "bad certificate"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	}
	return "connection failed"
}
