package guard

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/consentgate/consentgate/consent/publicnet"
)

// Limits of a picture that is fetched for a reader.
const (
	fetchTimeout = 10 * time.Second // all of it
	maxPicture   = 10 << 20         // bytes
	maxRedirects = 5
	maxFetches   = 256 // at once; who comes then sees nothing and is not counted
)

// upstream asks senders' servers for pictures.
type upstream struct {
	client  *http.Client
	slots   chan struct{}
	forward Forward
	reader  func(*http.Request) netip.Addr
	log     *slog.Logger
}

func newUpstream(c Config) *upstream {
	control := c.Control
	if control == nil {
		control = publicnet.Control
	}
	return &upstream{
		client: &http.Client{
			Transport: &http.Transport{ // no Proxy: it would connect to what it likes
				DialContext:            (&net.Dialer{Timeout: 3 * time.Second, Control: control}).DialContext,
				TLSHandshakeTimeout:    3 * time.Second,
				ResponseHeaderTimeout:  5 * time.Second,
				MaxResponseHeaderBytes: 16 << 10,
				MaxConnsPerHost:        64,
				MaxIdleConns:           128,
				MaxIdleConnsPerHost:    16,
				IdleConnTimeout:        30 * time.Second,
				ForceAttemptHTTP2:      true,
				DisableCompression:     true, // pictures are
			},
			CheckRedirect: func(r *http.Request, via []*http.Request) error {
				if len(via) > maxRedirects {
					return errors.New("too many redirects")
				}
				r.Header.Del("Referer") // would tell the next server what the last one knows
				return fetchable(r.URL)
			},
		},
		slots:   make(chan struct{}, maxFetches),
		forward: c.Forward,
		reader:  c.Client,
		log:     c.Log,
	}
}

// fetchable says what is wrong with an address to fetch; where it leads to is seen when it is connected to.
func fetchable(u *url.URL) error {
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return errors.New("no address of the web")
	}
	switch n, err := strconv.Atoi(u.Port()); {
	case u.Port() == "", n == 80, n == 443:
	case err != nil || n < 1024 || n > 65535: // of mail, files and the like
		return errors.New("no port of the web")
	}
	return nil
}

// picture fetches addr for the reader and hands it on, without anything else that the server says. It reports
// whether anything was answered.
func (u *upstream) picture(w http.ResponseWriter, r *http.Request, addr string) bool {
	select {
	case u.slots <- struct{}{}:
		defer func() { <-u.slots }()
	default:
		return false
	}
	ctx, cancel := context.WithTimeout(r.Context(), fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, addr, nil)
	if err != nil || fetchable(req.URL) != nil {
		return false
	}
	u.introduce(req, r)
	resp, err := u.client.Do(req)
	if err != nil {
		u.log.Debug("a pixel's server gives no answer", "host", req.URL.Hostname(), "err", withoutAddress(err))
		return false
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ContentLength > maxPicture {
		return false
	}
	buf := make([]byte, 16<<10)
	n, err := io.ReadAtLeast(resp.Body, buf, sniffed)
	if n == 0 || err != nil && err != io.ErrUnexpectedEOF {
		return false
	}
	typ := pictureType(resp.Header.Get("Content-Type"), buf[:n])
	if typ == "" {
		return false
	}
	h := w.Header()
	h.Set("Content-Type", typ)
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	if resp.ContentLength > 0 {
		h.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	if _, err := w.Write(buf[:n]); err != nil {
		return true
	}
	left := int64(maxPicture - n)
	if m, err := io.CopyBuffer(w, io.LimitReader(resp.Body, left+1), buf); err != nil || m > left {
		panic(http.ErrAbortHandler) // so that nobody takes it for the whole
	}
	return true
}

// sniffed is how many bytes tell the type of a picture that nobody named.
const sniffed = 512

// pictureType is the type of what came with that Content-Type and begins like that, "" for no picture. Where a
// server does not know what it stores, as many for static files do not, a mail reader finds out by itself; here
// nosniff keeps it from that.
func pictureType(named string, begin []byte) string {
	typ, _, err := mime.ParseMediaType(named)
	if named == "" || typ == "application/octet-stream" || typ == "binary/octet-stream" {
		typ, err = http.DetectContentType(begin), nil
	}
	if err != nil || !strings.HasPrefix(typ, "image/") {
		return ""
	}
	return typ
}

// introduce sets what the server learns of the reader.
func (u *upstream) introduce(req, r *http.Request) {
	req.Header.Set("Accept", "image/*")
	req.Header.Set("User-Agent", "Mozilla/5.0")
	if u.forward == ForwardNone {
		return
	}
	if agent := r.UserAgent(); agent != "" && len(agent) <= 512 {
		req.Header.Set("User-Agent", agent)
	}
	// What is a network's own is a proxy's, and tells nobody anything.
	if a := u.reader(r).Unmap().WithZone(""); a.IsValid() && !a.IsLoopback() && !a.IsPrivate() && !a.IsLinkLocalUnicast() {
		if u.forward == ForwardTruncated {
			bits := 24
			if a.Is6() {
				bits = 48
			}
			p, err := a.Prefix(bits)
			if err != nil {
				return
			}
			a = p.Addr()
		}
		req.Header.Set("X-Forwarded-For", a.String())
	}
}

// withoutAddress is err without the address that was asked for, which may name the person.
func withoutAddress(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}
