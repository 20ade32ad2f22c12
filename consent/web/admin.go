package web

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/consentgate/consentgate/consent"
)

// AdminConfig is what NewAdmin needs.
type AdminConfig struct {
	Store  consent.Store
	Source consent.Source // recorded with changes: FromAPI, or FromCLI on the control socket
	Log    *slog.Logger
	Now    func() time.Time

	FullAddresses bool // in the log, in lines about changes

	// Imports is the store for imports, where it is to be another than Store: one that tells nobody of each change.
	Imports consent.Store

	// Ready are checks beside the store's own. An error's text is shown to whoever asks for
	// /readyz: it names what is not ready ("spool: the disk is full"), without internals.
	Ready []func(context.Context) error

	// Alive says whether the process can still do its work, or only a restart helps; nil = it can. What its
	// error says is logged, and not shown.
	Alive func(context.Context) error

	// Forget takes somebody who is erased out of what waits outside of the store, where something does.
	Forget func(consent.Address) error

	// Tokens are asked for, but not by /healthz and /readyz; nil lets everybody who can connect do
	// everything, which is for loopback and unix sockets.
	Tokens *Tokens

	// Metrics and Status are served as /metrics and /, where they are not nil. With Tokens they ask for one as a
	// bearer, or as the password of Basic (RFC 7617), which browsers ask their user for; the API does not take that, so
	// that no page of another site can use what a browser remembers to change anything.
	Metrics, Status http.Handler

	// AllowedHosts are names that a Host field may hold beside localhost and loopback
	// addresses, in lower case and without a port: those of a proxy in front.
	AllowedHosts []string
}

// admin is the handler of the admin listener and of the control socket.
type admin struct {
	AdminConfig
	missing atomic.Value // of string: what /readyz found last
}

// readyTimeout bounds all checks of one /readyz.
const readyTimeout = 3 * time.Second

// aliveTimeout bounds the check of one /healthz. It is below what a disk takes that is slow for once.
const aliveTimeout = 10 * time.Second

// NewAdmin returns the handler for operators:
//
//	GET /healthz                      200 while the process can work, 503 where only a restart helps
//	GET /readyz                       200, or 503 with a line for each thing that is not ready
//	GET /metrics                      what is counted, for Prometheus
//	GET /                             the status page
//	/v1/...                           the API, as GET /v1/openapi.json describes it
//
// An ADDRESS in a path is percent-encoded. Errors are problem details (RFC 9457).
//
// On a loopback listener it refuses a Host that is neither loopback nor in AllowedHosts, so that
// no web page can reach it by a name that it points at 127.0.0.1; and it refuses what a browser
// sends on behalf of another site.
func NewAdmin(c AdminConfig) http.Handler {
	if c.Imports == nil {
		c.Imports = c.Store
	}
	a := &admin{AdminConfig: c}
	a.missing.Store("")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", a.healthz)
	mux.HandleFunc("GET /readyz", a.readyz)
	for path, page := range map[string]http.Handler{"GET /metrics": a.Metrics, "GET /{$}": a.Status} {
		if page != nil {
			mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { a.show(w, r, page) })
		}
	}
	for path, calls := range a.paths() {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { a.call(w, r, calls) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		problem{Status: http.StatusNotFound, Detail: "there is /healthz, /readyz, /metrics, the status page at /, and what /v1/openapi.json describes, such as /v1/consent/SCOPE/ADDRESS, the address percent-encoded"}.write(w)
	})
	var otherSites http.CrossOriginProtection
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !a.hostAllowed(r) {
			problem{Status: http.StatusForbidden, Field: "Host", Detail: "this listener is asked as localhost or by a loopback address"}.write(w)
			return
		}
		if otherSites.Check(r) != nil {
			problem{Status: http.StatusForbidden, Field: "Origin", Detail: "a page of another site may not ask this"}.write(w)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// calls are what a path takes, by method.
type calls map[string]struct {
	role   role
	handle func(http.ResponseWriter, *http.Request) error
}

// paths are the calls that there are.
func (a *admin) paths() map[string]calls {
	return map[string]calls{
		"/v1/consent":                   {"GET": {reads, a.exportAll}, "POST": {writes, a.importAll}},
		"/v1/consent/lookup":            {"POST": {reads, a.lookup}},
		"/v1/consent/{address}":         {"DELETE": {writes, a.erase}},
		"/v1/consent/{scope}/{address}": {"GET": {reads, a.get}, "PUT": {writes, a.put}},
		"/v1/history/{address}":         {"GET": {reads, a.history}},
		"/v1/export/{address}":          {"GET": {reads, a.export}},
		"/v1/rename":                    {"POST": {writes, a.rename}},
		"/v1/accept-store":              {"POST": {writes, a.acceptStore}},
		"/v1/openapi.json":              {"GET": {reads, openAPI}},
	}
}

// show serves what holds nothing of a person to whoever may read.
func (a *admin) show(w http.ResponseWriter, r *http.Request, page http.Handler) {
	if a.Tokens != nil {
		if _, password, ok := r.BasicAuth(); ok {
			r = r.Clone(r.Context())
			r.Header.Set("Authorization", "Bearer "+password)
		}
		if _, err := a.Tokens.check(w, r, reads); err != nil {
			if w.Header().Get("WWW-Authenticate") != "" {
				w.Header().Add("WWW-Authenticate", `Basic realm="consentgate: a token of the API is the password", charset="UTF-8"`)
			}
			a.fail(w, err)
			return
		}
	}
	page.ServeHTTP(w, r)
}

// call finds the method, and whether who asks may.
func (a *admin) call(w http.ResponseWriter, r *http.Request, calls calls) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	c, ok := calls[method]
	if !ok {
		allowed := slices.Sorted(maps.Keys(calls))
		if slices.Contains(allowed, http.MethodGet) {
			allowed = append(allowed, http.MethodHead)
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		problem{Status: http.StatusMethodNotAllowed, Detail: "this path does not take " + method, Allowed: allowed}.write(w)
		return
	}
	if a.Tokens != nil {
		who, err := a.Tokens.check(w, r, c.role)
		if err != nil {
			a.fail(w, err)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), originKey{}, who))
	}
	if c.role == writes {
		r = withID(r)
	}
	if err := c.handle(w, r); err != nil {
		a.fail(w, err)
	}
}

type originKey struct{}

// origin is what history says of who asks: the comment of the token.
func origin(r *http.Request) string {
	who, _ := r.Context().Value(originKey{}).(string)
	return who
}

// changed is the line about what an operator did, or a program of the operator's.
func (a *admin) changed(r *http.Request, level slog.Level, text string, attrs ...any) {
	attrs = append([]any{"id", consent.Request(r.Context()), "source", a.Source}, attrs...)
	if by := origin(r); by != "" {
		attrs = append(attrs, "by", by)
	}
	a.Log.Log(r.Context(), level, text, attrs...)
}

// named is how the log names a person.
func (a *admin) named(who consent.Address) string {
	if a.FullAddresses {
		return who.String()
	}
	return who.Masked()
}

// hostAllowed keeps out DNS rebinding: only there is a Host a stranger's choice where a browser
// on this machine can be made to connect, which is loopback and not a unix socket.
func (a *admin) hostAllowed(r *http.Request) bool {
	if r.Host == "" && (r.URL.Path == "/readyz" || r.URL.Path == "/healthz") {
		return true // HTTP/1.0, as balancers' checks speak it; browsers always name one
	}
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

func (a *admin) healthz(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if a.Alive != nil {
		ctx, cancel := context.WithTimeout(r.Context(), aliveTimeout)
		defer cancel()
		if err := a.Alive(ctx); err != nil {
			a.Log.Error("not well", "err", err)
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "not well, the log says why\n")
			return
		}
	}
	io.WriteString(w, "ok\n")
}

func (a *admin) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	var missing []string
	var whole error
	if err := a.Store.Ping(ctx); err != nil {
		whole = err
		missing = append(missing, "store: "+publicCause(err))
	}
	for _, check := range a.Ready {
		if err := check(ctx); err != nil {
			whole = errors.Join(whole, err)
			missing = append(missing, err.Error())
		}
	}
	// Balancers ask every second: the log gets what changes.
	if was := a.missing.Swap(strings.Join(missing, "; ")); was != strings.Join(missing, "; ") {
		if whole != nil {
			a.Log.Warn("not ready", "err", whole)
		} else {
			a.Log.Info("ready again")
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
	case errors.Is(err, consent.ErrMoved):
		return consent.ErrMoved.Error()
	case errors.Is(err, consent.ErrFilling):
		return consent.ErrFilling.Error()
	case errors.Is(err, consent.ErrLost):
		return consent.ErrLost.Error() + "; where that is as it should be: consentgate consent accept-store"
	case errors.Is(err, consent.ErrNotDurable):
		return consent.ErrNotDurable.Error()
	case errors.Is(err, consent.ErrUnreachable), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return consent.ErrUnreachable.Error()
	}
	return "the consent store cannot be used; the log says why"
}

// unanswering reports whether an error says that the store as a whole gives no answers.
func unanswering(err error) bool {
	return errors.Is(err, consent.ErrUnreachable) || errors.Is(err, consent.ErrForeign) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// fail answers with a problem: the request's own, or that of the store.
func (a *admin) fail(w http.ResponseWriter, err error) {
	var p problem
	switch {
	case errors.As(err, &p):
	case errors.Is(err, consent.ErrConflict):
		p = problem{Status: http.StatusPreconditionFailed, Field: "If-Match", Detail: "the record was changed meanwhile: read it again"}
	case errors.Is(err, consent.ErrBroken):
		a.Log.Error("a history does not hold", "err", err)
		p = problem{Status: http.StatusConflict, Detail: "the person's history does not hold, and this would hide it: see consentgate consent history"}
	case unanswering(err):
		a.Log.Error("the consent store failed the API", "err", err)
		w.Header().Set("Retry-After", "10")
		p = problem{Status: http.StatusServiceUnavailable, Detail: publicCause(err)}
	default:
		a.Log.Error("the consent store failed the API", "err", err)
		p = problem{Status: http.StatusInternalServerError, Detail: publicCause(err)}
	}
	p.write(w)
}
