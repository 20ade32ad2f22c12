package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// manyTally is what came of the part with many gateways.
type manyTally struct {
	*redisTally // both ways together
	lasted      time.Duration
	ways        map[string]*wayTally // "v2" and "v1"
	blows       map[string]int       // that were made, by name
	kills       int                  // SIGKILL among them
	share       []int                // copies that left through each gateway
	pages       []int                // pages and one clicks that each gateway answered well
	clicked     int                  // one clicks that were confirmed through HAProxy
	quietLines  int                  // that the gateways logged while there was nothing but checks
	strangers   map[string]int       // what somebody who may not send was answered, by way
	peers       map[string]int       // whom the Received fields name
	networks    map[string]int       // whom the histories name, see origins
	blind       int                  // times that HAProxy did not notice that a gateway is gone, or back
	stuck       int                  // who got no answer though HAProxy knew which gateway gives none
	elsewhere   int                  // connections that one gateway did not take and another one did
	givenUp     int                  // that none took
	cut         []string             // letters whose sender was not told that they left, as their gateway ended in good order
	kept        map[string]int       // letters answered by a gateway that ended meanwhile, by way
	again       int                  // copies that left twice though nothing but such an end happened
	faceless    []string             // what the page was, without Redis, where it was none of a gateway's
}

// wayTally is what came in by one way.
type wayTally struct {
	messages, delivered int
	apart               int   // transactional ones that were answered 250 while there was no Redis
	share               []int // copies that left through each gateway
	longest             time.Duration
}

// longestMay is how long there may be no 250 on one way, whatever is struck: half a second is usual on a machine with
// enough else to do.
const longestMay = 3 * time.Second

func newManyTally(lasted time.Duration) *manyTally {
	return &manyTally{redisTally: &redisTally{}, lasted: lasted, blows: map[string]int{}, strangers: map[string]int{}, peers: map[string]int{}, kept: map[string]int{},
		ways: map[string]*wayTally{"v1": {}, "v2": {}}}
}

// wrong names each thing that is not as it must be.
func (t *manyTally) wrong() (all []string) {
	must := func(ok bool, format string, args ...any) {
		if !ok {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	r := t.redisTally
	must(r.lost+r.tracked+r.mailed+r.missed+r.held == 0, "lost %d, tracked %d, mailed %d, untracked though agreed %d, transactional refused %d", r.lost, r.tracked, r.mailed, r.missed, r.held)
	must(r.waiting == "", "mail waits: %s", r.waiting)
	must(r.doubled <= inFlight*t.kills, "%d doubled in %d kills", r.doubled, t.kills)
	for _, b := range blows {
		must(t.blows[b.name] > 0, "no gateway was struck: %s", b.name)
	}
	// These are some in a second, if not hundreds: with fewer, nothing was put to the test.
	second := int(t.lasted / time.Second)
	must(r.tested >= second, "%d withdrawals were put to the test in %v", r.tested, t.lasted)
	must(t.clicked >= second/2, "%d one clicks in %v", t.clicked, t.lasted)
	for _, name := range slices.Sorted(maps.Keys(t.ways)) {
		w := t.ways[name]
		must(w.delivered >= second, "%s: %d copies in %v", name, w.delivered, t.lasted)
		must(spread(w.share), "%s: a gateway has not half of its share: %v", name, w.share)
		must(w.longest <= longestMay, "%s: %v without a 250", name, w.longest)
		must(w.apart >= t.blows["no Redis"], "%s: %d transactional messages without Redis", name, w.apart)
		must(t.kept[name] >= t.blows["ended"], "%s: %d letters under way at %d ends", name, t.kept[name], t.blows["ended"])
		must(t.strangers[name] == 530, "%s: a stranger is answered %d", name, t.strangers[name])
	}
	must(spread(t.pages), "the page: a gateway has not half of its share: %v", t.pages)
	must(t.quietLines == 0, "%d lines of log about checks", t.quietLines)
	must(len(t.peers) == 1 && t.peers[allowed] > 0, "the mail's peers are %v", t.peers)
	must(len(t.networks) == 2 && t.networks["known "+farNetwork] > 0 && t.networks["pretended "] > 0, "the page's peers are %v", t.networks)
	must(t.blind == 0, "HAProxy did not notice %d times that a gateway was gone or back", t.blind)
	must(t.stuck == 0, "%d clients got no answer though HAProxy knew of the gateway that gives none", t.stuck)
	must(t.elsewhere > 0, "no connection was handed to another gateway")
	must(t.givenUp == 0, "%d connections were given up though there was a gateway", t.givenUp)
	must(len(t.cut) == 0, "%d senders were not told, at an end in good order: %q", len(t.cut), t.cut[:min(len(t.cut), 5)])
	must(t.again == 0, "%d copies left twice at an end in good order", t.again)
	must(len(t.faceless) == 0, "the page without Redis is none of a gateway's: %q", t.faceless)
	return all
}

func (t *manyTally) bad() bool { return len(t.wrong()) > 0 }

// spread reports whether each gateway has at least half of an equal share.
func spread(share []int) bool {
	sum := 0
	for _, n := range share {
		sum += n
	}
	return len(share) == manyGateways && sum > 0 && slices.Min(share)*manyGateways*2 >= sum
}

// fromBalancer takes over what HAProxy counted.
func (t *manyTally) fromBalancer(b *balancer) error {
	all, err := b.states()
	if err != nil {
		return err
	}
	for _, name := range servers {
		t.pages = append(t.pages, all["pages/"+name].number("hrsp_2xx"))
	}
	for _, name := range backends {
		t.elsewhere += all[name+"/BACKEND"].number("wredis")
		t.givenUp += all[name+"/BACKEND"].number("econ")
	}
	return nil
}

// judgeWay counts what came in by one way from then to then.
func (m *manyRun) judgeWay(w *wayTally, l *load, from, to time.Time) {
	w.share = make([]int, manyGateways)
	for mark, a := range l.answers {
		if a.code != 250 {
			continue
		}
		w.messages++
		if a.transactional && within(m.apart, a.begun) {
			w.apart++
		}
		for _, to := range a.to {
			if _, gateway := m.sink.through(copyOf{mark, to}); gateway >= 0 {
				w.delivered++
				w.share[gateway]++
			}
		}
	}
	w.longest = longestGap(l, from, to)
}

// judgeEnds finds what was sent while a gateway ended in good order, and left without its sender knowing, or twice.
func (m *manyRun) judgeEnds(all *load) {
	m.sink.mu.Lock()
	defer m.sink.mu.Unlock()
	for mark, a := range all.answers {
		if !within(m.ended, a.begun) {
			continue
		}
		for _, to := range a.to {
			n := m.sink.copies[copyOf{mark, to}]
			if n > 1 {
				m.again++
			}
			if n > 0 && a.code == 0 {
				m.cut = append(m.cut, mark)
			}
		}
	}
}

var receivedBy = regexp.MustCompile(`(?s)^Received: from \S+ \(\S* ?\[([0-9.]+)\]\)\s+by gate(\d)\.example\.org`)

// receivedFrom is who sent a copy, by its Received field, and the gateway that it left through; "none" and -1 where that
// does not say it.
func receivedFrom(text string) (peer string, gateway int) {
	m := receivedBy.FindStringSubmatch(text[max(strings.Index(text, "Received: "), 0):])
	if m == nil {
		return "none", -1
	}
	return m[1], int(m[2][0] - '0')
}

// through is the same of one copy.
func (k *sink) through(of copyOf) (peer string, gateway int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return receivedFrom(k.text[of])
}

// seen counts through which gateway each copy left, and who its Received field says sent it.
func (t *manyTally) seen(k *sink) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t.share = make([]int, manyGateways)
	for _, text := range k.text {
		peer, gateway := receivedFrom(text)
		t.peers[peer]++
		if gateway >= 0 {
			t.share[gateway]++
		}
	}
}

// longestGap is the longest time from one message that was answered 250 to the next on one way.
func longestGap(l *load, from, to time.Time) (longest time.Duration) {
	at := []time.Time{from, to}
	for _, a := range l.answers {
		if a.code == 250 {
			at = append(at, a.begun.Add(a.took))
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	for i := 1; i < len(at); i++ {
		longest = max(longest, at[i].Sub(at[i-1]))
	}
	return longest
}

// manyReport is the section about many gateways.
func manyReport(t *manyTally) string {
	percent := func(share []int) string {
		sum := 0
		for _, n := range share {
			sum += n
		}
		var all []string
		for _, n := range share {
			all = append(all, fmt.Sprintf("%.0f %%", 100*float64(n)/float64(max(sum, 1))))
		}
		return strings.Join(all, ", ")
	}
	var b strings.Builder
	fmt.Fprintf(&b, `%s

Written by `+"`make faults`"+` on %s. Three gateways behind HAProxy, run with `+"`deploy/haproxy.cfg`"+` with its addresses replaced, on one Redis Cluster of three primaries and three
replicas, all on one machine. Twelve connections send through both of its ways, with PROXY header version 2 and version 1, while people change their mind through the API of
every gateway and by one click through HAProxy. A withdrawal that was confirmed must hold 0.1 s later, whichever gateway the mail comes through. Meanwhile gateways are struck in turn:
killed (SIGKILL) and back %.0f s or %.0f s later; stopped (SIGSTOP) until HAProxy has noticed; ended (SIGTERM) and started again, with letters under way that the smarthost answers %.0f s late;
and all of Redis is killed, for %.0f s.

`, parts[partMany], time.Now().UTC().Format("2006-01-02"), time.Second.Seconds(), downFor.Seconds(), lateBy.Seconds(), noRedis.Seconds())
	b.WriteString("| messages answered 250 | copies delivered | reported | share of each gateway | killed | stopped | ended | without Redis | lost | doubled | tracked without consent | mailed though unsubscribed | untracked though agreed | transactional refused | withdrawn before | one clicks |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	fmt.Fprintf(&b, "| %d | %d | %d | %s | %d | %d | %d | %d | **%d** | %d | **%d** | **%d** | **%d** | **%d** | %d | %d |\n\n",
		t.messages, t.delivered, t.reported, percent(t.share), t.kills, t.blows["stopped"], t.blows["ended"], t.blows["no Redis"], t.lost, t.doubled, t.tracked, t.mailed, t.missed, t.held, t.tested, t.clicked)
	for _, name := range slices.Sorted(maps.Keys(t.ways)) {
		w := t.ways[name]
		fmt.Fprintf(&b, "- PROXY header %s: %d messages answered 250, shares of the gateways %s, never longer than %.1f s without one. Without Redis %d transactional ones were answered 250; %d letters were answered by a gateway that ended meanwhile. Somebody who may not send was answered %d.\n",
			name, w.messages, percent(w.share), w.longest.Seconds(), w.apart, t.kept[name], t.strangers[name])
	}
	fmt.Fprintf(&b, `- The page: shares of the gateways %s. The histories name the network of a client behind a further proxy (%d one clicks), and not what somebody else pretends (%d).
- At the ends in good order %d copies left twice, and %d senders were not told. At the SIGKILLs what was on its way to the smarthost went again, since nobody knew better.
- Once HAProxy had noticed which gateway is stopped, %d of those who came got no answer. %d connections that one gateway did not take went to another one, %d were given up.
- Every Received field named the client, %s, and not HAProxy, which is not in `+"`allow_networks`"+`. In %.0f s with nothing but HAProxy's checks, by HTTP and by SMTP, every second, the gateways logged %d lines.
`, percent(t.pages), t.networks["known "+farNetwork], t.networks["pretended "], t.again, len(t.cut), t.stuck, t.elsewhere, t.givenUp, allowed, quietFor.Seconds(), t.quietLines)
	return b.String()
}
