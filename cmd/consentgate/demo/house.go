package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/consent/web"
	"github.com/consentgate/consentgate/relay"
	"github.com/consentgate/consentgate/relay/sign"
	"github.com/consentgate/consentgate/relay/smarthost"
	"github.com/consentgate/consentgate/rewrite"
)

const (
	company    = "The Paper Swallow"
	dkimDomain = "shop.example"
	selector   = "demo"
)

// house is the gateway with all that stands around it.
type house struct {
	base   string // of the page and the unsubscribe links, without a slash at the end
	now    func() time.Time
	store  consent.Store
	links  *token.Sealer
	public http.Handler // the unsubscribe page
	sink   *sink
	gate   string // host:port of the relay
	dns    string // the TXT record of the DKIM key
	letter *letter
	log    *journal

	closers []func() error // the last one first
}

// open starts everything but the page, and writes what the five people agreed to.
func open(base string, now func() time.Time) (h *house, err error) {
	h = &house{base: base, now: now, log: new(journal)}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	if h.letter, err = readLetter(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "consentgate-demo-")
	if err != nil {
		return nil, err
	}
	h.closers = append(h.closers, func() error { return os.RemoveAll(dir) })
	ring := keyring.Ephemeral()
	if h.store, err = boltstore.Open(filepath.Join(dir, "consent.db"), ring); err != nil {
		return nil, err
	}
	h.closers = append(h.closers, h.store.Close)
	h.links = token.New(ring)
	log := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	h.public = web.NewPublic(web.PublicConfig{Store: h.store, Links: h.links, Ring: ring, Company: company, Log: log, Now: now})
	if h.sink, err = newSink(); err != nil {
		return nil, err
	}
	h.closers = append(h.closers, h.sink.close)
	next, err := smarthost.New(smarthost.Config{URLs: []string{"smtp://" + h.sink.address()}, Hostname: "gate.example.org"})
	if err != nil {
		return nil, err
	}
	h.closers = append(h.closers, func() error { next.Close(); return nil })
	signer, err := h.newSigner()
	if err != nil {
		return nil, err
	}
	gate, err := relay.New(relay.Config{
		Hostname: "gate.example.org",
		Listen:   []string{"127.0.0.1:0"},
		BaseURL:  base,
		TempDir:  dir,
		Log:      log,
		Now:      now,
		Settings: relay.Settings{
			AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
			Rewrite:       rewrite.Options{Footers: rewrite.DefaultFooters(company)},
			Signer:        signer,
		},
	}, h.store, h.links, next, nil)
	if err != nil {
		return nil, err
	}
	h.gate = gate.Addrs()[0].String()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- gate.Run(ctx) }()
	h.closers = append(h.closers, func() error { stop(); return <-ended })
	return h, h.agree(context.Background())
}

// newSigner makes a key and the DNS record that goes with it.
func (h *house) newSigner() (*sign.Signer, error) {
	private, err := sign.NewKey()
	if err != nil {
		return nil, err
	}
	k, err := sign.ParseKey(private, dkimDomain, selector)
	if err != nil {
		return nil, err
	}
	h.dns = k.Record()
	return sign.New([]*sign.Key{k}, sign.Options{}), nil
}

// lookupTXT is the DNS of the demo: it knows one name.
func (h *house) lookupTXT(name string) ([]string, error) {
	if name != selector+"._domainkey."+dkimDomain {
		return nil, fmt.Errorf("no TXT record at %s", name)
	}
	return []string{h.dns}, nil
}

// agree writes the consents that the first round begins with.
func (h *house) agree(ctx context.Context) error {
	var changes []consent.Change
	for _, p := range people {
		changes = append(changes, consent.Change{Who: p.who, Scope: scope, Mail: p.mail, Open: p.open, Click: p.click,
			Source: consent.FromImport, Notice: "demo-1", Time: h.now()})
	}
	results, err := h.store.Apply(ctx, changes)
	if err != nil {
		return err
	}
	for _, r := range results {
		if r.Err != nil {
			return r.Err
		}
	}
	return nil
}

// close ends everything; the temporary folder goes last.
func (h *house) close() error {
	var err error
	for i := len(h.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, h.closers[i]())
	}
	return err
}

// journal keeps the warnings of the gateway, which are shown only where something went wrong.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// take returns what was written since the last call.
func (j *journal) take() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.text.String()
	j.text.Reset()
	return s
}
