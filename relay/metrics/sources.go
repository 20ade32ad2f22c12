package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Sources are the parts of the gateway that are asked when somebody scrapes. Each may be nil; what it would tell is
// then missing.
type Sources struct {
	Now func() time.Time

	Spool        func() SpoolState
	Calls        func() (change, copied, chain int) // that wait
	SMTP         func() (open, limit int)
	Smarthost    func() SmarthostState
	Cache        func() (hits, misses uint64)
	Certificates map[string]func() (time.Time, bool) // when that of "smtp" and "unsubscribe" ends

	Version, Commit, GoVersion, Mode string
}

// SpoolState is how full the spool is.
type SpoolState struct {
	Messages, Recipients int
	Bytes                int64
	Oldest               time.Time // zero: nothing waits
	Writable             bool      // it would take a message now
}

// SmarthostState is what is known of the way out.
type SmarthostState struct {
	InUse, Limit int // connections
	Hops         map[string]bool
}

// collector asks the Sources. It may be registered without them, for its descriptions.
type collector struct {
	sources Sources

	spoolMessages, spoolRecipients, spoolBytes, spoolAge, spoolWritable *prometheus.Desc
	callsWaiting                                                        *prometheus.Desc
	smtpOpen, smtpLimit                                                 *prometheus.Desc
	hopUp, hopConnections, hopLimit                                     *prometheus.Desc
	cache                                                               *prometheus.Desc
	certificate                                                         *prometheus.Desc
	build                                                               *prometheus.Desc
	all                                                                 []*prometheus.Desc
}

// Ask registers the sources. It is called once.
func (m *Metrics) Ask(s Sources) {
	c := &collector{sources: s}
	add := func(kind, name, help string, labels ...string) *prometheus.Desc {
		m.describe(kind, name, help, labels)
		d := prometheus.NewDesc(prefix+name, help, labels, nil)
		c.all = append(c.all, d)
		return d
	}
	c.spoolMessages = add("gauge", "spool_messages", "Messages that wait in the spool. When it grows for long: see deferred_total for the reason; consentgate queue list shows them.")
	c.spoolRecipients = add("gauge", "spool_recipients", "Recipients that are still owed a copy of the messages in the spool. When it grows: as spool_messages.")
	c.spoolBytes = add("gauge", "spool_bytes", "Bytes on disk that the spool takes, with the room set apart for it. When it nears what the disk has: senders are told 452 soon; make room.")
	c.spoolAge = add("gauge", "spool_oldest_age_seconds", "How long ago the oldest waiting message arrived; 0 where none waits. When it is over an hour: something is away, or one domain refuses; consentgate queue list.")
	c.spoolWritable = add("gauge", "spool_writable", "1 where the spool would take a message now. When it is 0: the disk is full or broken, and senders are told 452; free room, the spool goes on by itself.")
	c.callsWaiting = add("gauge", "calls_waiting", "Calls to web servers that wait, by queue: change and copy (webhook), chain (the sender's own list). When it grows: the receiver does not answer; after a day calls are given up.", "queue")
	c.smtpOpen = add("gauge", "smtp_connections", "Connections of senders that are open now. When it nears smtp_connections_limit: raise smtp.max_connections, or find who holds them.")
	c.smtpLimit = add("gauge", "smtp_connections_limit", "What smtp.max_connections allows.")
	c.hopUp = add("gauge", "smarthost_up", "1 where a next hop worked when it was last tried, 0 where not: by mail, or without that by a connection: every 5 minutes while it works, else after 30 s, and then less and less often. When it is 0: see that it runs and may be reached; mail waits meanwhile.", "smarthost")
	c.hopConnections = add("gauge", "smarthost_connections", "Connections to next hops with a copy on its way. When it stands at smarthost_connections_limit: the smarthost is the bottleneck; raise smarthost.max_connections if it allows more.")
	c.hopLimit = add("gauge", "smarthost_connections_limit", "What smarthost.max_connections allows.")
	c.cache = add("counter", "cache_lookups_total", "People looked up, by whether memory knew (hit) or the store was asked (miss). When misses are nearly all: mailings reach each person once, or the store tells of no changes (the log says so); it is no fault.", "result")
	c.certificate = add("gauge", "certificate_expiry_timestamp_seconds", "When a TLS certificate ends, in seconds since 1970, by listener: smtp, unsubscribe. When it is near: renew it; the files are read again by themselves.", "listener")
	c.build = add("gauge", "build_info", "Always 1; the labels say what runs: version, commit, Go version, and delivery.mode.", "version", "commit", "goversion", "mode")
	m.registry.MustRegister(c)
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.all {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := &c.sources
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if s.Spool != nil {
		st := s.Spool()
		gauge(c.spoolMessages, float64(st.Messages))
		gauge(c.spoolRecipients, float64(st.Recipients))
		gauge(c.spoolBytes, float64(st.Bytes))
		age := 0.0
		if !st.Oldest.IsZero() {
			age = max(s.Now().Sub(st.Oldest).Seconds(), 0)
		}
		gauge(c.spoolAge, age)
		gauge(c.spoolWritable, float64(number(st.Writable)))
	}
	if s.Calls != nil {
		change, copied, chain := s.Calls()
		gauge(c.callsWaiting, float64(change), "change")
		gauge(c.callsWaiting, float64(copied), "copy")
		gauge(c.callsWaiting, float64(chain), "chain")
	}
	if s.SMTP != nil {
		open, limit := s.SMTP()
		gauge(c.smtpOpen, float64(open))
		gauge(c.smtpLimit, float64(limit))
	}
	if s.Smarthost != nil {
		st := s.Smarthost()
		gauge(c.hopConnections, float64(st.InUse))
		gauge(c.hopLimit, float64(st.Limit))
		for hop, up := range st.Hops {
			gauge(c.hopUp, float64(number(up)), hop)
		}
	}
	if s.Cache != nil {
		hits, misses := s.Cache()
		ch <- prometheus.MustNewConstMetric(c.cache, prometheus.CounterValue, float64(hits), "hit")
		ch <- prometheus.MustNewConstMetric(c.cache, prometheus.CounterValue, float64(misses), "miss")
	}
	for listener, until := range s.Certificates {
		if at, ok := until(); ok {
			gauge(c.certificate, float64(at.Unix()), listener)
		}
	}
	gauge(c.build, 1, s.Version, s.Commit, s.GoVersion, s.Mode)
}
