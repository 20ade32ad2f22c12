// Package metrics counts what the gateway does, in Prometheus' form.
//
// Who counts calls a method of Metrics, which is a few atomic additions: every counter of the way of a message is
// made before the first message comes. What the parts of the gateway know by themselves (how full the spool is) is
// asked of them when somebody scrapes, see Sources.
//
// The names that labels may hold are fixed here or by the operator's configuration. No label ever holds an address,
// a person, or a name that a stranger chose, so that nobody can fill the memory with series.
//
// The zero *Metrics does not work; New is cheap enough for every test. The package is not for serving or drawing:
// Registry is what promhttp and package status read.
package metrics

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/consentgate/consentgate/consent"
)

// Metrics are all of the gateway. It is safe for concurrent use.
type Metrics struct {
	registry  *prometheus.Registry
	described []Description

	accepted   []prometheus.Counter // by class
	forwarded  []prometheus.Counter
	deferred   [][]prometheus.Counter // by class and Reason
	bounced    [][]prometheus.Counter
	suppressed [][]prometheus.Counter // by class, and 1 where discarded
	dequeued   prometheus.Counter
	refused    *prometheus.CounterVec
	mailto     []prometheus.Counter // by Mailto
	reports    *prometheus.CounterVec
	signatures []prometheus.Counter // by Signature
	unchained  prometheus.Counter
	decisions  [3][]prometheus.Counter // by purpose, then verdict and reason

	trackers

	storeTime    [][2]prometheus.Observer // by operation, and 1 where it failed
	storeErrors  []prometheus.Counter
	storeUp      prometheus.Gauge
	storeFull    atomic.Bool // it answered and took no change when that was last tried
	changes      *prometheus.CounterVec
	smarthostTry *prometheus.HistogramVec
	smarthosts   sync.Map // of the observers of smarthostTry, *[4]prometheus.Observer, by next hop

	connections  *prometheus.CounterVec
	turnedAway   prometheus.Counter
	failedLogins []prometheus.Counter // wrong, and not looked at

	page, guard *prometheus.CounterVec
	calls       *prometheus.CounterVec
	logged      []prometheus.Counter // warnings and errors
	reloaded    prometheus.Gauge
	restart     prometheus.Gauge
}

// Description is a metric as the table in METRICS.md shows it.
type Description struct {
	Name   string
	Kind   string // "counter", "gauge" or "histogram"
	Labels []string
	Help   string // what it is, and what to do
}

// Describe returns all metrics that are the gateway's own, by name.
func (m *Metrics) Describe() []Description {
	all := slices.Clone(m.described)
	slices.SortFunc(all, func(a, b Description) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Registry holds the gateway's own metrics; those of Go and of the process are not in it.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// prefix is that of every name.
const prefix = "consentgate_"

// Buckets in seconds: of a lookup, which takes 50 µs to 1 s, and of handing a copy over, which takes 1 ms to minutes.
var (
	storeBuckets     = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}
	smarthostBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
)

// Report is the class under which is counted what the gateway wrote itself, reports to senders and letters: nobody sent it in.
const Report consent.Class = "report"

// classes are those of what is sent in, and then those of what leaves besides.
var classes = []consent.Class{consent.Marketing, consent.Transactional, Report}

const sentIn = 2

func classAt(c consent.Class) int {
	switch c {
	case consent.Transactional:
		return 1
	case Report:
		return 2
	}
	return 0
}

// New makes the metrics, all of them at nought.
func New() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}

	accepted := m.counters("accepted_total", "Recipients of messages that were answered 250. When it stands still though mail is sent: look at refused_total, and whether the sender connects at all.", "class")
	forwarded := m.counters("forwarded_total", "Recipients whose copy the smarthost took. Class report is what the gateway wrote itself, reports to senders and the page's letters, which accepted_total does not count. When marketing or transactional falls behind accepted_total: look at deferred_total and spool_messages.", "class")
	deferred := m.counters("deferred_total", "Attempts, and not recipients, that ended with 'later': a copy that is tried five times counts five times; it waits, or its sender tries again. By class, see forwarded_total, and reason: store (no answer of the consent store), smarthost (not reached, or no answer), answer (it said 4yz), internal (the log says why). When it is high: look at store_up and smarthost_up first, then at what the smarthost says in the log.", "class", "reason")
	bounced := m.counters("bounced_total", "Recipients whose copy will never arrive. Their sender is told, in the answer or by a report, but for the null sender and where it asked for no reports (NOTIFY=NEVER). By class, see forwarded_total, and reason: answer (the smarthost said 5yz), expired (tried for as long as delivery.retry_for says), content (this gateway could not or may not send it so). When it is high: read the smarthost's words in the log; a provider that blocks you shows here first.", "class", "reason")
	suppressed := m.counters("suppressed_total", "Recipients without a copy since they had unsubscribed, by whether their sender was told (refused) or not (discarded). When it is high: the sender mails a list that does not know of the opt-outs; give it the webhook, or unsubscribe.chain.", "class", "how")
	for i, c := range classes {
		class := string(c)
		if i < sentIn {
			m.accepted = append(m.accepted, accepted.WithLabelValues(class))
			m.suppressed = append(m.suppressed, resolve(suppressed, class, "refused", "discarded"))
		}
		m.forwarded = append(m.forwarded, forwarded.WithLabelValues(class))
		m.deferred = append(m.deferred, resolve(deferred, class, string(DeferredByStore), string(DeferredBySmarthost), string(DeferredByAnswer), string(DeferredInternally)))
		m.bounced = append(m.bounced, resolve(bounced, class, string(BouncedByAnswer), string(BouncedExpired), string(BouncedByContent)))
	}
	m.dequeued = m.counter("queue_removed_total", "Recipients of waiting messages that an operator removed with consentgate queue remove: they get no copy, and nobody is told. When it grows: somebody empties the queue by hand; the control socket is open to whom its folder is.")
	m.refused = m.counters("refused_total", "Commands, of which DATA stands for the whole message, that were answered 4yz or 5yz before there was a copy, each once, by command (EHLO also for HELO and LHLO; other for what none of these is) and reason. When it is high: login (somebody tries to relay, or a sender lost its password), content (mail that cannot be read safely), policy (a sender claims what it may not), no_room (the disk is full), store (opt-outs by mail could not be written down: see store_up and store_writable), recipients (too many in one transaction; in mode stateless one is all), address (no mail address), too_large, loop, broken (the connection ended in the middle), too_many (a stranger's commands, or its mail without a valid code), stopping (a restart), internal (the log says why); unknown, syntax, sequence, line (too long) and tls (a login without it) are a program that does not speak SMTP as it should: log.level = \"debug\" shows what it was told.", "command", "reason")
	m.resolveRefused()
	m.mailto = resolve(m.counters("mailto_total", "Mails to the unsubscribe address (unsubscribe.mailto), by result: ok (unsubscribed), bad (no valid code in the subject, too large, or not read to its end), down (the store did not take it, 451). When down grows: opt-outs wait at the mail server of who sent them, see store_up and store_writable. When bad grows: a mail program changes the subject, or it is spam.", "result"), "", "ok", "bad", "down")
	m.reports = m.counters("reports_total", "Reports to senders (RFC 3464) that were written, each about one or more recipients, by what they are about: failed, delayed, relayed. When failed is high: see bounced_total.", "about")
	resolve(m.reports, "", "failed", "delayed", "relayed")
	m.signatures = resolve(m.counters("signatures_total", "Recipients whose copy left, by what became of its DKIM signature: signed, no_key (no key for the domain in From), no_from (no From field that can be read). Reports of our own are not counted, and nothing is where DKIM is not configured. When no_key grows: add a [[dkim.key]] for that domain, the log names it; unsigned mail gets no one-click button.", "result"), "", "signed", "no_key", "no_from")
	m.unchained = m.counter("unchained_total", "Copies whose sender's own one-click address is too long to be told of an unsubscribe. When it grows: ask the sender for shorter addresses, else its list does not learn of opt-outs.")
	decisions := m.counters("decisions_total", "Decisions about recipients, one each attempt at a copy, but none about what the gateway wrote itself, by purpose (mail, open, click), what was decided, and why: scope, any_scope, default (nothing recorded), transactional, unreachable (the store did not answer). When reason=unreachable grows: see store_up. When nearly all is default: nobody has been asked yet.", "purpose", "decision", "reason")
	m.resolveDecisions(decisions)

	m.trackers = m.newTrackers()

	storeTime := m.histogram("store_request_duration_seconds", "How long the consent store took for a request, by result: answered, or failed (no answer, or not in time). What memory answered is not in it, nor what failed at once since the store had not answered just before. When the 99th percentile of answered is over 0.1 s: look at the store's own load, its disk (appendfsync) and the network. A Redis that takes more than 0.3 s to be reached or to answer, and any store that takes more than 1 s for all recipients of a message, counts as not answering.", storeBuckets, "operation", "result")
	storeErrors := m.counters("store_errors_total", "Requests that the consent store did not answer, or not in time, with those that it was not asked since it had not answered just before. When it grows: the store is away or overloaded; marketing mail then gets what consent.when_unreachable says.", "operation")
	for _, operation := range operations {
		m.storeTime = append(m.storeTime, [2]prometheus.Observer{storeTime.WithLabelValues(operation, "answered"), storeTime.WithLabelValues(operation, "failed")})
		m.storeErrors = append(m.storeErrors, storeErrors.WithLabelValues(operation))
	}
	m.storeUp = m.gauge("store_up", "1 where the consent store answered when it was last asked, at least every 10 s; 0 where not, or where it has lost its records. When it is 0: /readyz and the log say what is wrong.")
	m.storeUp.Set(1)
	m.gaugeOf("store_writable", "1 where the consent store took what was written to see that, every 10 s; 0 where it answers and takes no changes. When it is 0: opt-outs fail, and people are told so; see whether Redis' memory (maxmemory) or disk is full, whether it is a replica, or has lost those that consent.wait_replicas asks for.", func() float64 { return float64(number(!m.storeFull.Load())) })
	m.changes = m.counters("consent_changes_total", "Changes of consent that the store took, by source (page, one-click, mailto, api, cli, import), purpose and new state; made again they count again. When one-click or page unsubscribes jump: the mailing of that hour went to people who did not want it.", "source", "purpose", "state")
	m.resolveChanges()
	m.smarthostTry = m.histogram("smarthost_request_duration_seconds", "How long a next hop took for one copy, from the first command, or from connecting, to its answer; waiting for a free connection is not in it. By result: accepted, deferred (4yz), refused (5yz), failed (no answer). When it is high: the smarthost scans, throttles or is overloaded; more smarthost.max_connections may help.", smarthostBuckets, "smarthost", "result")

	m.connections = m.counters("smtp_connections_total", "Connections that were let in, by protocol (smtp, smtps, lmtp). When it jumps: a sender opens one for each message, or somebody scans.", "protocol")
	resolve(m.connections, "", "smtp", "smtps", "lmtp")
	m.turnedAway = m.counter("smtp_connections_refused_total", "Connections that were turned away with 421 since smtp.max_connections, or the share of peers that have to log in, were open. When it grows: raise the limit, or find out who holds so many.")
	m.failedLogins = resolve(m.counters("logins_failed_total", "Logins that failed, by reason: wrong (name or password), throttled (not looked at, since too many had failed). When it is high: somebody guesses, or a sender's password was changed on one side only; the log names the peer.", "reason"), "", "wrong", "throttled")

	m.page = m.counters("page_requests_total", "Requests to the unsubscribe address, by what was asked: page, one_click, choice, undo, confirm_page, confirm, bad_link, and by result: ok, bad (a form that none of ours sends), down (the store did not answer, 503), limited. When down grows: people are told that their opt-out did not work. When bad_link grows: a mail program or a proxy cuts links, or somebody guesses.", "what", "result")
	m.guard = m.counters("guard_hits_total", "Hits on guarded pixels and links, by answer: fetched (pixel, with consent), blank (pixel, without, or its server gave none), counted (link, to its counter), direct (link, to its destination), asked (a page, since nobody knows the destination), bad (no valid token). When blank is high: withdrawals work; when bad is high: links are cut on their way.", "answer")
	m.calls = m.counters("calls_total", "Calls to web servers, to: webhook, or list (the sender's own one-click address), by result: done, failed (tried again), given_up (after a day, or damaged), lost (no room to keep it). When failed grows: the receiver is down or refuses; when given_up or lost grows: it has missed changes, give it an export.", "to", "result")
	for _, to := range []string{"webhook", "list"} {
		resolve(m.calls, to, "done", "failed", "given_up", "lost")
	}
	for _, what := range []string{"page", "one_click", "choice", "undo", "confirm_page", "confirm"} {
		resolve(m.page, what, "ok", "bad", "down", "limited")
	}
	resolve(m.page, "bad_link", "bad", "limited")
	resolve(m.guard, "", "fetched", "blank", "counted", "direct", "asked", "bad")
	m.logged = resolve(m.counters("log_messages_total", "Lines in the log by level: warn, error. When error grows: read them; each says what to do.", "level"), "", "warn", "error")
	m.reloaded = m.gauge("config_reload_successful", "1 where the configuration in force is that of the last start or SIGHUP; 0 where that one held a mistake. When it is 0: consentgate check-config names the line. What is in force only after a restart, see config_restart_needed, does not make it 0.")
	m.reloaded.Set(1)
	m.restart = m.gauge("config_restart_needed", "1 where the file that the last SIGHUP read holds changes that only a restart puts in force. When it is 1: the log names their keys; restart the gateway.")
	return m
}

func (m *Metrics) describe(kind, name, help string, labels []string) {
	m.described = append(m.described, Description{prefix + name, kind, labels, help})
}

func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	m.describe("counter", name, help, labels)
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) counter(name, help string) prometheus.Counter {
	m.describe("counter", name, help, nil)
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) gauge(name, help string) prometheus.Gauge {
	m.describe("gauge", name, help, nil)
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + name, Help: help})
	m.registry.MustRegister(g)
	return g
}

// gaugeOf makes a gauge of what is kept elsewhere.
func (m *Metrics) gaugeOf(name, help string, value func() float64) {
	m.describe("gauge", name, help, nil)
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name, Help: help}, value))
}

func (m *Metrics) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	m.describe("histogram", name, help, labels)
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(v)
	return v
}

// resolve returns the counters of v, one for each value of its last label; first is the one before it, "" where
// there is none. They are there from the start, so that a rate sees their first step.
func resolve(v *prometheus.CounterVec, first string, values ...string) []prometheus.Counter {
	var all []prometheus.Counter
	for _, value := range values {
		if first == "" {
			all = append(all, v.WithLabelValues(value))
		} else {
			all = append(all, v.WithLabelValues(first, value))
		}
	}
	return all
}
