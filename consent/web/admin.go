package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/consentgate/consentgate/consent"
)

// AdminConfig is what NewAdmin needs.
type AdminConfig struct {
	Store  consent.Store
	Source consent.Source // recorded with changes: FromAPI, or FromCLI on the control socket
	Log    *slog.Logger
	Now    func() time.Time

	// Ready are checks beside the store's own. An error's text is shown to whoever asks for
	// /readyz: it names what is not ready ("spool: the disk is full"), without internals.
	Ready []func(context.Context) error

	// AllowedHosts are names that a Host field may hold beside localhost and loopback
	// addresses, in lower case and without a port: those of a proxy in front.
	AllowedHosts []string
}

// admin is the handler of the admin listener and of the control socket.
type admin struct{ AdminConfig }

// readyTimeout bounds all checks of one /readyz.
const readyTimeout = 3 * time.Second

// NewAdmin returns the handler for operators:
//
//	GET /healthz                      200 while the process runs
//	GET /readyz                       200, or 503 with a line for each thing that is not ready
//	GET /v1/consent/SCOPE/ADDRESS     the record; a person never seen is subscribed and unset
//	PUT /v1/consent/SCOPE/ADDRESS     changes what the body names, answers with the record
//
// ADDRESS is percent-encoded. Errors are problem details (RFC 9457).
//
// On a loopback listener it refuses a Host that is neither loopback nor in AllowedHosts, so that
// no web page can reach it by a name that it points at 127.0.0.1. It asks for no password: it is
// for loopback and unix sockets.
func NewAdmin(c AdminConfig) http.Handler {
	a := &admin{c}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.HandleFunc("GET /v1/consent/{scope}/{address}", a.get)
	mux.HandleFunc("PUT /v1/consent/{scope}/{address}", a.put)
	mux.HandleFunc("/v1/consent/{scope}/{address}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", "GET, HEAD, PUT")
		problem{Status: http.StatusMethodNotAllowed, Detail: "a record is read with GET and changed with PUT"}.write(w)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		problem{Status: http.StatusNotFound, Detail: "there is /healthz, /readyz and /v1/consent/SCOPE/ADDRESS, the address percent-encoded"}.write(w)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !a.hostAllowed(r) {
			problem{Status: http.StatusForbidden, Field: "Host", Detail: "this listener is asked as localhost or by a loopback address"}.write(w)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// hostAllowed keeps out DNS rebinding: only there is a Host a stranger's choice where a browser
// on this machine can be made to connect, which is loopback and not a unix socket.
func (a *admin) hostAllowed(r *http.Request) bool {
	switch local := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		if !local.IP.IsLoopback() {
			return true
		}
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return host == "localhost" || slices.Contains(a.AllowedHosts, host)
}

func (a *admin) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	var missing []string
	if err := a.Store.Ping(ctx); err != nil {
		a.Log.Warn("not ready", "what", "store", "err", err)
		missing = append(missing, "store: "+publicCause(err))
	}
	for _, check := range a.Ready {
		if err := check(ctx); err != nil {
			a.Log.Warn("not ready", "err", err)
			missing = append(missing, err.Error())
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if missing != nil {
		w.Header().Set("Retry-After", "10")
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, strings.Join(missing, "\n")+"\n")
		return
	}
	io.WriteString(w, "ready\n")
}

// publicCause says what is wrong with the store, without addresses of servers or files.
func publicCause(err error) string {
	switch {
	case errors.Is(err, consent.ErrForeign):
		return consent.ErrForeign.Error()
	case errors.Is(err, consent.ErrUnreachable), errors.Is(err, context.Canceled):
		return consent.ErrUnreachable.Error()
	}
	return "the consent store cannot be used; the log says why"
}

// key reads whose record in which scope the path names.
func key(r *http.Request) (consent.Address, consent.Scope, error) {
	scope, err := consent.ParseScope(r.PathValue("scope"))
	if err != nil {
		return consent.Address{}, "", problem{Status: http.StatusBadRequest, Field: "scope", Detail: err.Error()}
	}
	who, err := consent.ParseAddress(r.PathValue("address"))
	if err != nil {
		return consent.Address{}, "", problem{Status: http.StatusBadRequest, Field: "address", Detail: err.Error()}
	}
	return who, scope, nil
}

func (a *admin) get(w http.ResponseWriter, r *http.Request) {
	who, scope, err := key(r)
	if err != nil {
		a.fail(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	rs, err := a.Store.Lookup(ctx, scope, []consent.Address{who})
	a.answer(w, who, rs, err)
}

func (a *admin) put(w http.ResponseWriter, r *http.Request) {
	who, scope, err := key(r)
	if err != nil {
		a.fail(w, err)
		return
	}
	change, err := readChange(w, r)
	if err != nil {
		a.fail(w, err)
		return
	}
	change.Who, change.Scope, change.Source, change.Time = who, scope, a.Source, a.Now()
	// What arrived is carried out, even if who sent it has gone meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), storeTimeout)
	defer cancel()
	rs, err := a.Store.Apply(ctx, []consent.Change{change})
	a.answer(w, who, rs, err)
}

// record is the answer to GET and PUT.
type record struct {
	Scope   consent.Scope                     `json:"scope"`
	Address string                            `json:"address"` // as it is compared, in its normal form
	Mail    consent.State                     `json:"mail"`
	Open    consent.State                     `json:"open"`
	Click   consent.State                     `json:"click"`
	Version uint64                            `json:"version"` // changes so far; 0 = never seen
	Detail  map[consent.Purpose]consentDetail `json:"detail"`  // of the purposes that were ever recorded
}

type consentDetail struct {
	Time   time.Time      `json:"time"` // UTC, RFC 3339
	Source consent.Source `json:"source"`
	Notice string         `json:"notice"`
}

// answer writes the one record that the store returned, or why it did not.
func (a *admin) answer(w http.ResponseWriter, who consent.Address, rs []consent.Result, err error) {
	if err == nil {
		err = rs[0].Err
	}
	if err != nil {
		a.fail(w, err)
		return
	}
	rec := rs[0].Scope
	out := record{
		Scope: rec.Scope, Address: who.String(), Version: rec.Version,
		Mail: consent.Subscribed, Open: consent.Unset, Click: consent.Unset,
		Detail: map[consent.Purpose]consentDetail{},
	}
	for _, p := range []struct {
		purpose consent.Purpose
		entry   consent.Entry
		state   *consent.State
	}{{consent.Mail, rec.Mail, &out.Mail}, {consent.Open, rec.Open, &out.Open}, {consent.Click, rec.Click, &out.Click}} {
		if p.entry.State != "" {
			*p.state = p.entry.State
			out.Detail[p.purpose] = consentDetail{p.entry.Time, p.entry.Source, p.entry.Notice}
		}
	}
	writeJSON(w, http.StatusOK, "application/json", out)
}

// fail answers with a problem: the request's own, or that of the store.
func (a *admin) fail(w http.ResponseWriter, err error) {
	var p problem
	switch {
	case errors.As(err, &p):
	case errors.Is(err, consent.ErrUnreachable), errors.Is(err, consent.ErrForeign), errors.Is(err, context.Canceled):
		a.Log.Error("the consent store failed the API", "err", err)
		w.Header().Set("Retry-After", "10")
		p = problem{Status: http.StatusServiceUnavailable, Detail: publicCause(err)}
	default:
		a.Log.Error("the consent store failed the API", "err", err)
		p = problem{Status: http.StatusInternalServerError, Detail: fmt.Sprintf("%s; nothing is known of this person", publicCause(err))}
	}
	p.write(w)
}
