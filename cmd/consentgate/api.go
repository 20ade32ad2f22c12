package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/web"
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
		return &api{client: &http.Client{Transport: transport, Timeout: 30 * time.Second}, close: transport.CloseIdleConnections}, nil
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

// openConsents serves the consent store where no gateway runs.
func openConsents(ctx context.Context, cfg *config.Config) (http.Handler, func(), error) {
	ring, err := keyring.Load(cfg.KeyFile)
	if err != nil {
		return nil, nil, usageError{err}
	}
	store, err := openStore(cfg, ring)
	if err != nil {
		return nil, nil, err
	}
	if err := store.Ping(ctx); err != nil { // the API says that it does not answer, but not why
		store.Close()
		return nil, nil, err
	}
	h := web.NewAdmin(web.AdminConfig{Store: store, Source: consent.FromCLI, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	return h, func() { store.Close() }, nil
}

// do sends one request and returns the body of the answer. What is not a success is an error
// with the API's own words.
func (a *api) do(ctx context.Context, method, path string, body any) ([]byte, error) {
	var send io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		send = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, send)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if resp.StatusCode/100 == 2 {
		return answer, nil
	}
	var problem struct{ Detail, Field string }
	if err := json.Unmarshal(answer, &problem); err != nil || problem.Detail == "" {
		return nil, fmt.Errorf("the gateway answers %s: %s", resp.Status, strings.TrimSpace(string(answer)))
	}
	if problem.Field != "" {
		return nil, fmt.Errorf("%s: %s", problem.Field, problem.Detail)
	}
	return nil, errors.New(problem.Detail)
}

// inProcess answers requests by a handler, without a connection.
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
