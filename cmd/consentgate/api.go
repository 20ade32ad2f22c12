package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/redisstore"
	"github.com/consentgate/consentgate/consent/web"
	"github.com/consentgate/consentgate/relay"
	"github.com/consentgate/consentgate/relay/spool"
)

// api speaks to the operators' API: that of the running gateway over its control socket, or,
// where none runs, one of its own in this process on the opened store or spool. The verbs see no
// difference.
type api struct {
	client *http.Client
	close  func()
}

// connect finds who answers; open makes the handler that does where no gateway runs.
func connect(ctx context.Context, cfg *config.Config, open func(context.Context, *config.Config) (http.Handler, func(), error)) (*api, error) {
	path := controlPath(cfg)
	conn, err := dialControl(ctx, path)
	if err == nil {
		conn.Close()
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialControl(ctx, path)
		}}
		return &api{client: &http.Client{Transport: transport}, close: transport.CloseIdleConnections}, nil
	}
	if !errors.Is(err, errNobody) {
		return nil, err
	}
	h, shut, err := open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &api{client: &http.Client{Transport: inProcess{h}}, close: shut}, nil
}

// nobodyServes is for connect where only a running gateway will do.
func nobodyServes(context.Context, *config.Config) (http.Handler, func(), error) {
	return nil, nil, errNobody
}

// openKept serves the consent store where no gateway runs, unless it has lost what the gateway knew: nobody is to be told
// that somebody was never recorded then.
func openKept(ctx context.Context, cfg *config.Config) (http.Handler, func(), error) {
	if _, err := checkStore(ctx, cfg, false, slog.New(slog.DiscardHandler)); errors.Is(err, consent.ErrLost) {
		return nil, nil, err
	}
	return openConsents(ctx, cfg)
}

// openConsents is openKept of a store that may have lost its records too, into which an import brings them back.
func openConsents(ctx context.Context, cfg *config.Config) (http.Handler, func(), error) {
	return serveConsents(ctx, cfg, redisstore.Options{})
}

// openKnown is openConsents with what the gateway knew of the store.
func openKnown(ctx context.Context, cfg *config.Config) (http.Handler, func(), error) {
	return serveConsents(ctx, cfg, redisstore.Options{Known: knownPath(cfg)})
}

func serveConsents(ctx context.Context, cfg *config.Config, opts redisstore.Options) (http.Handler, func(), error) {
	ring, err := keyring.Load(cfg.KeyFile)
	if err != nil {
		return nil, nil, usageError{err}
	}
	opts.Log = slog.New(slog.DiscardHandler)
	store, err := storeWith(cfg, ring, opts)
	if err != nil {
		return nil, nil, err
	}
	// The API says that the store does not answer, but not why; and one that lost its records is to
	// be accepted over the API.
	if err := store.Ping(ctx); err != nil && !errors.Is(err, consent.ErrLost) {
		store.Close()
		return nil, nil, err
	}
	log := slog.New(slog.DiscardHandler)
	// What the webhook is to be told of changes waits in the spool until a gateway runs. Else the spool is
	// opened only where somebody is erased.
	var waiting *spool.Spool
	if cfg.Unsubscribe.WebhookURL != "" {
		if waiting, err = openSpool(cfg, log); err != nil {
			store.Close()
			return nil, nil, err
		}
	}
	served := store
	if waiting != nil {
		served = newOutbox(cfg, ring, store, waiting, log, nil).Told()
	}
	h := web.NewAdmin(web.AdminConfig{
		Store: served, Imports: store, Source: consent.FromCLI, Log: log, FullAddresses: cfg.Log.Addresses == "full", Now: time.Now,
		Forget: func(who consent.Address) error { return forgetWaiting(cfg, ring, store, waiting, who) },
	})
	return h, func() {
		store.Close()
		if waiting != nil {
			waiting.Close()
		}
	}, nil
}

// forgetWaiting takes somebody out of the spool of a gateway that does not run; waiting is nil where it is not open.
func forgetWaiting(cfg *config.Config, ring *keyring.Ring, store consent.Store, waiting *spool.Spool, who consent.Address) (err error) {
	log := slog.New(slog.DiscardHandler)
	if waiting == nil {
		if _, err := os.Stat(cfg.Delivery.SpoolDir); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if waiting, err = openSpool(cfg, log); err != nil || waiting == nil {
			return err
		}
		defer func() { err = errors.Join(err, waiting.Close()) }()
	}
	return errors.Join(newOutbox(cfg, ring, store, waiting, log, nil).Forget(who), relay.Forget(waiting, who))
}

// answerTime is how long the gateway may take for an answer, longTime where it has much to do.
const (
	answerTime = 30 * time.Second
	longTime   = 10 * time.Minute
)

// do sends one request with a body of JSON, or none, and returns the body of the answer.
func (a *api) do(ctx context.Context, method, path string, body any) ([]byte, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	limit := answerTime
	if method != "GET" {
		limit = longTime
	}
	answer, _, err := a.send(ctx, limit, method, path, http.Header{"Content-Type": {"application/json"}}, text)
	return answer, err
}

// send sends one request and returns the answer, which is no longer than a page of an export. What
// is not a success is an error with the API's own words.
func (a *api) send(ctx context.Context, limit time.Duration, method, path string, header http.Header, body []byte) ([]byte, http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var send io.Reader
	if body != nil {
		send = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, send)
	if err != nil {
		return nil, nil, err
	}
	req.Header = header
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("control socket: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("control socket: %w", err)
	}
	if resp.StatusCode/100 == 2 {
		return answer, resp.Header, nil
	}
	var p problem
	if err := json.Unmarshal(answer, &p); err != nil || p.Detail == "" {
		return nil, nil, fmt.Errorf("the gateway answers %s: %s", resp.Status, strings.TrimSpace(string(answer)))
	}
	return nil, nil, p
}

// problem is what the API says where it is no success (RFC 9457).
type problem struct{ Detail, Field string }

func (p problem) Error() string {
	if p.Field != "" {
		return p.Field + ": " + p.Detail
	}
	return p.Detail
}

// inProcess answers requests by a handler, without a connection. It keeps the whole answer: the
// verbs ask for everybody's records a page at a time.
type inProcess struct{ http.Handler }

func (h inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := &answer{header: http.Header{}}
	h.ServeHTTP(w, r)
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return &http.Response{
		Status:     fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)),
		StatusCode: w.status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:  w.header,
		Body:    io.NopCloser(&w.body),
		Request: r,
	}, nil
}

// answer is an http.ResponseWriter that keeps what is written.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}
