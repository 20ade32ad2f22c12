package relay

import (
	"context"
	"strings"
	"sync"

	"github.com/consentgate/consentgate/consent"
)

// machineStore knows the machine's people: p0 never said anything, p1 and p2 agree, p3 has
// unsubscribed, and of p4 the store says nothing until it is healed.
type machineStore struct {
	consent.Store // the rest is not called

	mu     sync.Mutex
	people map[string]consent.Record
	healed bool
}

func newMachineStore() *machineStore {
	var agrees, left consent.Record
	agrees.Open.State, agrees.Click.State = consent.Granted, consent.Granted
	left.Mail.State = consent.Unsubscribed
	return &machineStore{people: map[string]consent.Record{"p0": {}, "p1": agrees, "p2": agrees, "p3": left, "p4": {}}}
}

func (s *machineStore) Lookup(_ context.Context, scope consent.Scope, people []consent.Address) ([]consent.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	results := make([]consent.Result, len(people))
	for i, who := range people {
		local, _, _ := strings.Cut(who.String(), "@")
		results[i].Scope = s.people[local]
		results[i].Scope.Scope, results[i].Any.Scope = scope, consent.AnyScope
		if local == "p4" && !s.healed {
			results[i].Err = errStoreDown
		}
	}
	return results, nil
}

// decide withdraws what a person agreed to, or else unsubscribes.
func (s *machineStore) decide(person string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.people[person]
	if r.Open.State == consent.Granted {
		r.Open.State, r.Click.State = consent.Denied, consent.Denied
	} else {
		r.Mail.State = consent.Unsubscribed
	}
	s.people[person] = r
}

func (s *machineStore) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.healed = true
}

// state says who agrees to be tracked, and who gets mail.
func (s *machineStore) state() (tracked, reached map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tracked, reached = map[string]bool{}, map[string]bool{}
	for person, r := range s.people {
		tracked[person] = r.Open.State == consent.Granted
		reached[person] = r.Mail.State != consent.Unsubscribed
	}
	return tracked, reached
}

// judge says of each recipient of each transaction what must have come of it, once nothing is under
// way or in the spool any more:
//
//   - 250: one copy that the next hop took, or a final refusal, by the next hop or because the person
//     has unsubscribed, with one report to the sender, if it wants to know.
//   - 4yz or 5yz: no copy and no report. Where there is a spool, 4yz only because of the store.
//   - no answer, since the client did not wait: at most one of them.
//   - no end of the message: nothing.
//
// Where the next hop once ended the connection behind the dot it may have one copy more for each such
// time, but in mode stateless, where each message is offered once. No copy is tracked without consent, cut short, or for somebody
// who has unsubscribed, and no copy is one that nobody asked for.
func (m *machine) judge() {
	_, reached := m.people.state() // as it is at the end
	m.hop.mu.Lock()
	defer m.hop.mu.Unlock()
	asked := map[deed]bool{}
	for _, tx := range m.all {
		due := map[string]int{} // reports, by the person they name
		unread := false
		seen := map[deed]bool{}
		for _, d := range tx.rcpts {
			asked[d] = true
			if seen[d] {
				continue
			}
			seen[d] = true
			got := m.hop.copies[d]
			if got == nil {
				got = &arrived{}
			}
			code, answered := tx.codes[d]
			transactional := strings.Contains(tx.text, "X-Consent-Class: transactional")
			switch {
			case got.acknowledged > 1 || got.kept > 1+got.uncertain:
				m.fatalf("%+v, answered %d: %d copies were acknowledged, %d are there, %d uncertain", d, code, got.acknowledged, got.kept, got.uncertain)
			case m.Server.cfg.Mode == Stateless && got.acknowledged+got.refused+got.uncertain > 1:
				m.fatalf("%+v, answered %d: more than one attempt, %+v", d, code, *got)
			case !tx.ended:
				if got.kept+got.refused+got.uncertain > 0 {
					m.fatalf("%+v: the message has no end, and %+v came of it", d, *got)
				}
			case !answered:
				unread = true
			case code/100 != 2:
				if got.acknowledged > 0 || got.kept > got.uncertain {
					m.fatalf("%+v was answered %d, and %+v came of it", d, code, *got)
				}
				if code/100 == 4 && m.spool != nil && d.person != "p4" && !m.hasOther(tx, d) {
					m.fatalf("%+v was answered %d, though there is a spool", d, code)
				}
				if !tx.isRefused() && !tx.odd && code/100 == 5 && got.refused == 0 && (tx.reached[d.person] || transactional) && !m.hasOther(tx, d) {
					m.fatalf("%+v was answered %d, and nobody had refused it", d, code)
				}
			case got.acknowledged == 0:
				if got.refused == 0 && (reached[d.person] || transactional) {
					m.fatalf("%+v was answered %d, and is lost: %+v", d, code, *got)
				}
				if !tx.null && d.notify != "NEVER" {
					due[d.person]++
				}
			}
			for _, text := range got.texts {
				m.judgeCopy(tx, d, text, transactional)
			}
		}
		reports := m.hop.reports[tx.name]
		for _, d := range tx.rcpts {
			if n := reports[d.person]; n != due[d.person] && !unread {
				m.fatalf("%d reports about %+v, %d were due", n, d, due[d.person])
			}
		}
	}
	for d := range m.hop.copies {
		if !asked[d] {
			m.fatalf("a copy that nobody asked for: %+v", d)
		}
	}
}

// hasOther reports whether a transaction that is answered once has another recipient than d, whom the
// answer may be about.
func (m *machine) hasOther(tx *deal, d deed) bool {
	for _, other := range tx.rcpts {
		if other != d && !m.lmtp {
			return true
		}
	}
	return false
}

func (m *machine) judgeCopy(tx *deal, d deed, text string, transactional bool) {
	if tx.odd {
		return
	}
	if !tx.reached[d.person] && !transactional {
		m.fatalf("%+v had unsubscribed and got a copy", d)
	}
	if !tx.tracked[d.person] && (strings.Contains(text, "open.gif") || strings.Contains(text, "pstmrk")) {
		m.fatalf("%+v did not agree, and is tracked:\n%s", d, text)
	}
	mark := tx.text[strings.LastIndex(tx.text, "mark-"):]
	if strings.Count(text, mark) != 1 {
		m.fatalf("%+v got a copy without its end, or with two:\n%s", d, text)
	}
	if strings.Contains(tx.text, "\r\n.\r\n..\r\n") && !strings.Contains(text, "\r\n.\r\n..\r\n.mark of a dot\r\n") {
		m.fatalf("%+v: the dots are not what they were:\n%s", d, text)
	}
	for _, other := range m.all { // RFC 5321 §4.1.4: nothing of an earlier transaction
		if _, mark, ok := strings.Cut(other.text, "\r\nmark-"); ok && other != tx && !other.odd && strings.Contains(text, "\r\nmark-"+mark) {
			m.fatalf("%+v got what belongs to %s:\n%s", d, other.name, text)
		}
	}
}
