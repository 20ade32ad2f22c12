// Package guard answers the hits on guarded pixels and links (SPEC section 6.7): the consent that counts is the one
// that holds when mail is read, not when it was sent.
//
// A hit is an address whose token (token.Hits) holds the sender's own. With consent, a pixel's request is made to the
// sender's server and its picture handed on, and a link is redirected to the sender's counter. Without, whether it is
// withdrawn, was never given or the store does not answer in time, the sender's server hears nothing: the reader gets a
// transparent picture or goes straight to the destination. Where nobody knows that, a page says so and leaves the
// choice to the reader.
//
// Only addresses that stand in a valid token are ever fetched or redirected to, and only public ones fetched. Nothing
// about a person is written down: no log line holds an address or a token.
//
// The package is not for making tokens or addresses, nor for listeners and TLS. The limits of package web's servers fit.
package guard

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
)

// Config is what New needs; only Control and Count may be nil.
type Config struct {
	Store   consent.Store
	Hits    *token.Hits
	Policy  func() consent.Policy // what unset counts as, now
	Forward Forward
	Client  func(*http.Request) netip.Addr // the reader's address; not asked with ForwardNone
	Log     *slog.Logger
	// Control says what may be connected to, as that of a net.Dialer: nil = publicnet.Control.
	Control func(network, address string, c syscall.RawConn) error
	// Count is told of each hit how it was answered: "fetched" and "blank" for pixels, "counted", "direct" and "asked"
	// for links, "bad" where no token opens or nothing but GET and HEAD was meant.
	Count func(answer string)
}

// Forward says what the sender's server learns of the reader where it is asked for a pixel.
type Forward string

const (
	ForwardNone      Forward = "none"      // neither address nor program
	ForwardTruncated Forward = "truncated" // the network's address, /24 or /48, and the program
	ForwardFull      Forward = "full"      // the address and the program
)

// lookupTimeout is how long a reader is made to wait for the store.
const lookupTimeout = 300 * time.Millisecond

// guard is the handler.
type guard struct {
	Config
	upstream *upstream
	failing  atomic.Bool // the store gave no answer last time
}

// New returns the handler of everything below the public address:
//
//	GET, HEAD /t/TOKEN   a pixel or a link
//
// HEAD, and what a browser fetches before anybody asked for it, never reach the sender's server. Everything else, and
// every token that does not open, gets the same 404.
func New(c Config) http.Handler {
	if c.Count == nil {
		c.Count = func(string) {}
	}
	return &guard{Config: c, upstream: newUpstream(c)}
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "private, no-store, max-age=0") // the next answer may be another
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Robots-Tag", "noindex")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")

	text, isHit := strings.CutPrefix(r.URL.Path, "/t/")
	hit, err := g.Hits.Open(text)
	if !isHit || err != nil {
		g.Count("bad")
		t := textFor("", r.Header.Get("Accept-Language"))
		g.say(w, http.StatusNotFound, page{T: t, Title: t.BadTitle, Body: []string{t.Bad}})
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		g.Count("bad")
		h.Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	granted := r.Method == http.MethodGet && !prefetched(r) && g.granted(r.Context(), hit)
	if hit.Purpose == consent.Open {
		if granted && g.upstream.picture(w, r, hit.URL) {
			g.Count("fetched")
			return
		}
		g.Count("blank")
		nothing(w)
		return
	}
	switch {
	case granted:
		g.Count("counted")
		redirect(w, hit.URL)
	case hit.Destination != "":
		g.Count("direct")
		redirect(w, hit.Destination)
	default:
		g.Count("asked")
		t := textFor(hit.Language, r.Header.Get("Accept-Language"))
		g.say(w, http.StatusOK, page{T: t, Title: t.Title, Body: []string{fmt.Sprintf(t.Why, hostOf(hit.URL)), t.Choice}, GoOn: hit.URL})
	}
}

// prefetched reports whether a browser asks before its user does, as browsers say it in one way or another.
func prefetched(r *http.Request) bool {
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"} {
		if v := strings.ToLower(r.Header.Get(name)); strings.Contains(v, "prefetch") || strings.Contains(v, "preview") || strings.Contains(v, "prerender") {
			return true
		}
	}
	return false
}

// granted looks up whether the person agrees, now. A store that gives no answer in time is a no.
func (g *guard) granted(ctx context.Context, hit token.Hit) bool {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	answer := make(chan consent.Result, 1)
	go func() { // a store may take longer to notice that the time is over
		rs, err := g.Store.Lookup(ctx, hit.Scope, []consent.Address{hit.Who})
		if err == nil && len(rs) != 1 {
			err = fmt.Errorf("%w: %d results for one person", consent.ErrUnreachable, len(rs))
		}
		if err != nil {
			answer <- consent.Result{Err: err}
			return
		}
		answer <- rs[0]
	}()
	var r consent.Result
	select {
	case r = <-answer:
	case <-ctx.Done():
		r.Err = context.Cause(ctx)
	}
	if r.Err != nil {
		if ctx.Err() != context.Canceled && !g.failing.Swap(true) {
			g.Log.Warn("the consent store does not answer: until it does, guarded pixels and links are not tracked", "err", r.Err)
		}
		return false
	}
	if g.failing.Load() && g.failing.Swap(false) {
		g.Log.Info("the consent store answers again: guarded pixels and links are tracked as people agreed")
	}
	d := consent.Decide(r, consent.Marketing, g.Policy())
	if hit.Purpose == consent.Open {
		return d.Open
	}
	return d.Click
}

func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusFound)
}

// blank is a transparent picture of one pixel.
var blank = func() []byte {
	b, err := base64.StdEncoding.DecodeString("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
	if err != nil {
		panic("guard: " + err.Error())
	}
	return b
}()

// nothing answers for a pixel of which nobody is to hear.
func nothing(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "image/gif")
	h.Set("Content-Length", strconv.Itoa(len(blank)))
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	w.Write(blank)
}
