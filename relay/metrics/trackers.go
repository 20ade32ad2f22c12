package metrics

import (
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/consentgate/consentgate/rewrite"
)

// trackers are the counters of what was found in copies that left.
type trackers struct {
	removed, kept, opaque, rules, observed *prometheus.CounterVec
	undone                                 prometheus.Counter
}

func (m *Metrics) newTrackers() trackers {
	t := trackers{
		removed:  m.counters("trackers_removed_total", "Trackers that copies left without, by kind (open, click) and by vector, the element or field that they stood in; an undone link counts here too. When one vector jumps: a sender's template has changed, consentgate inspect shows how.", "kind", "vector"),
		kept:     m.counters("trackers_kept_total", "Trackers that copies left with, by kind, and by how: kept or guarded, since the person agreed, or without_consent, in what has to stay as it is (a signed body); links that nobody can read are counted by themselves. When without_consent grows: mail is signed (S/MIME, PGP) before it comes here; set rewrite.signed to reject, or have it signed without trackers. When kept is 0 though people agree: consents are of another scope than the mail.", "kind", "how"),
		undone:   m.counter("links_undone_total", "Counted links that lead straight to their destination, or lost what named the person. When it falls to 0 though mail flows: a provider has changed its links; look at links_opaque_total, and at consentgate inspect."),
		opaque:   m.counters("links_opaque_total", "Counted links without consent whose destination nobody can read, by what became of them: kept (they still count), unlinked. When kept grows: these people's clicks are counted all the same; set rewrite.opaque_links, or have the sender write data-consent-href.", "action"),
		rules:    m.counters("rule_hits_total", "Trackers that copies left without, by the rule that found them. When a rule of yours is 0: it does not match what is sent.", "rule"),
		observed: m.counters("trackers_observed_total", "With rewrite.observe: trackers that copies would have left without, by kind and vector. When it is what you want to see: set observe = false.", "kind", "vector"),
	}
	resolve(t.opaque, "", "kept", "unlinked")
	all := slices.Compact(slices.Sorted(maps.Values(vectors)))
	for _, kind := range []string{"open", "click"} {
		resolve(t.kept, kind, "kept", "guarded", "without_consent")
		resolve(t.removed, kind, all...)
		resolve(t.observed, kind, all...)
	}
	return t
}

// Rules makes the counters of rules, by their names, before they first find something.
func (m *Metrics) Rules(names []string) { resolve(m.rules, "", names...) }

// Tally is what is counted for each copy of one kind of one message: its counters are looked up once for all of them.
type Tally []step

type step struct {
	counter prometheus.Counter
	n       int
}

// Count counts one copy that left.
func (t Tally) Count() {
	for _, s := range t {
		s.counter.Add(float64(s.n))
	}
}

// Tally reads what became of a copy's findings; open and click say what the person agreed to, and
// observed that the copy left as it came.
func (m *Metrics) Tally(found []rewrite.Outcome, open, click, observed bool) Tally {
	// A newsletter has many links of one kind: these are looked up once.
	type alike struct {
		rewrite.Outcome
		unread bool
		n      int
	}
	var all []alike
next:
	for _, o := range found {
		if o.Kind == rewrite.Unsubscribe || o.Rule == "" {
			continue
		}
		for i := range all {
			a := &all[i]
			if a.Action == o.Action && a.Kind == o.Kind && a.Rule == o.Rule && a.Vector == o.Vector && a.unread == (o.Destination == "") {
				a.n++
				continue next
			}
		}
		all = append(all, alike{o, o.Destination == "", 1})
	}
	var t Tally
	for _, o := range all {
		add := func(c prometheus.Counter) {
			for i := range t {
				if t[i].counter == c {
					t[i].n += o.n
					return
				}
			}
			t = append(t, step{c, o.n})
		}
		kind := string(o.Kind)
		agreed := open
		if o.Kind == rewrite.ClickTracker {
			agreed = click
		}
		opaque := o.Kind == rewrite.ClickTracker && !agreed && o.unread
		stays := o.Action == rewrite.Kept || o.Action == rewrite.Guarded
		switch {
		case observed && !stays:
			add(m.observed.WithLabelValues(kind, Vector(o.Vector)))
		case observed:
		case stays && opaque && o.Action == rewrite.Kept:
			add(m.opaque.WithLabelValues("kept"))
		case stays && !agreed:
			add(m.kept.WithLabelValues(kind, "without_consent"))
		case stays:
			add(m.kept.WithLabelValues(kind, string(o.Action)))
		default:
			add(m.removed.WithLabelValues(kind, Vector(o.Vector)))
			add(m.rules.WithLabelValues(o.Rule))
			switch o.Action {
			case rewrite.Undone, rewrite.Stripped:
				add(m.undone)
			case rewrite.Unlinked:
				add(m.opaque.WithLabelValues("unlinked"))
			}
		}
	}
	return t
}

// vectors are the elements and fields that a label names; whatever else a sender writes is "other".
var vectors = map[string]string{"": "other", "srcset": "srcset", "background": "background", "ping": "ping", "text": "text link", "json-ld": "JSON-LD", "amp": "AMP part", "s/mime": "signed body", "message/external-body": "external body",
	"document": "document", "quotes": "document", "instruction": "document"}

func init() {
	for _, name := range strings.Fields(`a applet area audio base bgsound body button embed feimage form frame html iframe image img input link meta object
		param picture source style svg table tbody td tfoot th thead tr track use video script textarea noscript
		v:background v:fill v:image v:imagedata v:rect v:roundrect v:shape v:oval v:stroke
		disposition-notification-to return-receipt-to x-confirm-reading-to read-receipt-to
		attach image photo logo sound url x-alt-desc styled-description`) {
		vectors[name] = name
	}
}

// Vector folds a finding's vector, of which a sender chooses the words, into one of a fixed set.
func Vector(text string) string {
	first, rest, _ := strings.Cut(strings.ToLower(text), " ")
	for word := range strings.FieldsSeq(rest) {
		switch word {
		case "style":
			return "style"
		case "srcset", "background", "ping":
			return word
		}
	}
	if v, ok := vectors[first]; ok {
		return v
	}
	return "other"
}
