package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
	"github.com/consentgate/consentgate/consent/cache"
	"github.com/consentgate/consentgate/relay/logbook"
	"github.com/consentgate/consentgate/relay/metrics"
	"github.com/consentgate/consentgate/relay/smarthost"
	"github.com/consentgate/consentgate/relay/spool"
	"github.com/consentgate/consentgate/relay/status"
)

// What is seen of a gateway while it runs: the log, the metrics and the status page.

// seen holds them together.
type seen struct {
	counted *metrics.Metrics
	logbook *logbook.Logbook
	page    *status.Page // nil before serve

	certificates map[string]func() (time.Time, bool)
}

// newSeen returns them with the log that is part of them.
func newSeen(cfg *config.Config, w io.Writer) (*seen, *slog.Logger) {
	s := &seen{counted: metrics.New(), certificates: map[string]func() (time.Time, bool){}}
	s.logbook = logbook.New(newLog(cfg, w).Handler(), logbook.Options{FullAddresses: cfg.Log.Addresses == "full", Count: s.counted.Logged})
	return s, slog.New(s.logbook)
}

// serve returns the handlers of /metrics and of the status page, which ask these parts of the gateway; waiting may be nil.
// g.relay is asked only when somebody looks, and may be made later.
func (s *seen) serve(g *gateway, waiting *spool.Spool, next *smarthost.Client, memory *cache.Store) (metricsPage, statusPage http.Handler) {
	cfg := g.cfg
	version, commit := build()
	ask := metrics.Sources{
		Now:   time.Now,
		Calls: g.calls.Waiting,
		SMTP:  func() (open, limit int) { return g.relay.Connections() },
		Smarthost: func() metrics.SmarthostState {
			inUse, limit, hops := next.State()
			return metrics.SmarthostState{InUse: inUse, Limit: limit, Hops: hops}
		},
		Cache:        memory.Stats,
		Certificates: s.certificates,
		Version:      version, Commit: commit, GoVersion: runtime.Version(), Mode: cfg.Delivery.Mode,
	}
	s.certificates["smtp"] = func() (time.Time, bool) { return g.relay.CertificateEnds() }
	if waiting != nil {
		ask.Spool = func() metrics.SpoolState {
			st := waiting.Stats()
			return metrics.SpoolState{Messages: st.Messages, Recipients: st.Recipients, Bytes: st.Bytes, Oldest: st.Oldest, Writable: waiting.Room(probeSize, 1) == nil}
		}
	}
	s.counted.Ask(ask)
	runs := prometheus.NewRegistry()
	runs.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metricsPage = promhttp.HandlerFor(prometheus.Gatherers{s.counted.Registry(), runs}, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(g.log.Handler(), slog.LevelWarn), MaxRequestsInFlight: 4,
	})
	var listens []string
	for _, l := range listeners(cfg) {
		if strings.HasPrefix(l.key, "smtp.") {
			listens = append(listens, l.address)
		}
	}
	s.page = status.New(status.Config{
		Metrics: s.counted.Registry(), Logbook: s.logbook, Log: g.log, Now: time.Now,
		Hostname: cfg.Hostname, Version: version, Mode: cfg.Delivery.Mode, Observe: cfg.Rewrite.Observe, Listens: listens, Ping: g.store.Ping,
	})
	return metricsPage, s.page
}

// probeSize is that of a message for which there has to be room.
const probeSize = 1 << 20

// watch keeps what is seen up to date until ctx is done.
func (g *gateway) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var probes sync.WaitGroup
	probes.Go(func() { metrics.Probe(ctx, g.store, g.log) })
	probes.Go(func() {
		g.next.Watch(ctx, func(hop string, err error) {
			if err != nil {
				g.log.Warn("the smarthost cannot be used", "smarthost", hop, "err", err)
			} else {
				g.log.Info("the smarthost can be used again", "smarthost", hop)
			}
		})
	})
	err := g.seen.page.Run(ctx)
	cancel()
	probes.Wait()
	return err
}
