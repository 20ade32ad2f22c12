package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// redisTally is what came of a fault of Redis in one mode.
type redisTally struct {
	fault, mode string
	times       int
	away        time.Duration // the longest

	messages, deferred, refused, unsure    int // answered 250, 451, otherwise, not
	delivered, reported                    int // copies
	lost, doubled, tracked, mailed, missed int // must be 0; missed: untracked though agreed
	held                                   int // transactional, and not answered 250; must be 0

	tested                 int           // recipients of accepted marketing mail who had taken back their consent before
	confirmed, unconfirmed int           // changes, of all modes together
	flows                  time.Duration // how long after Redis was back marketing mail flowed, at the latest; < 0: it did not
	drained                time.Duration // how long after the end of the load the spool was empty
	well, wrong            cost
	waiting                string
	said                   []string // each thing that must not be, up to 20 of a kind
	note                   string
}

// bad reports whether something is not 0 that must be.
func (t *redisTally) bad() bool {
	return t.lost+t.doubled+t.tracked+t.mailed+t.missed+t.held > 0 || t.flows < 0 || t.waiting != ""
}

// cost is what messages took.
type cost struct {
	cpu      time.Duration // of the gateway
	messages int
	took     []time.Duration // to the answer
}

func (c cost) String() string {
	if c.messages == 0 {
		return "–"
	}
	slices.Sort(c.took)
	return fmt.Sprintf("%.1f / %.1f", ms(c.took[len(c.took)/2]), ms(c.cpu)/float64(c.messages))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// judgeRedis compares what was answered with what arrived, and with what people had confirmed.
func judgeRedis(l *load, k *sink, c *crowd, gateway int) *redisTally {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	minds := map[string]*mind{}
	for _, m := range c.minds {
		minds[m.address] = m
	}
	t := &redisTally{confirmed: c.confirmed, unconfirmed: c.unconfirmed}
	say := func(n *int, what string, of copyOf) {
		if *n++; *n <= 20 {
			t.said = append(t.said, fmt.Sprintf("%s: %s to %s", what, of.mark, of.to))
		}
	}
	for mark, a := range l.answers {
		switch a.code {
		case 250:
			t.messages++
		case 451:
			t.deferred++
		case 0:
			t.unsure++
		default:
			t.refused++
		}
		if a.transactional && a.code != 250 && a.code != 0 && a.code != 421 { // a gateway that leaves says 421 to all
			say(&t.held, fmt.Sprintf("TRANSACTIONAL, and answered %d", a.code), copyOf{mark, a.to[0]})
		}
		if a.code != 250 {
			continue
		}
		for _, to := range a.to {
			of := copyOf{mark, to}
			m := minds[to]
			if m != nil && m.holds(gateway, a.begun) && !a.transactional {
				t.tested++
			}
			mayBounce := kindOf(to) == unsubscribed || m != nil && m.leaves
			switch n := k.copies[of]; {
			case n > 0:
				t.delivered++
				if n > 1 {
					say(&t.doubled, "DOUBLED", of)
				}
			case k.reports[of] != "" && mayBounce:
				t.reported++
			default:
				say(&t.lost, "LOST", of)
			}
		}
	}
	for of, text := range k.text {
		a, m, kind := l.answers[of.mark], minds[of.to], kindOf(of.to)
		holds := m != nil && m.holds(gateway, a.begun)
		pixel := strings.Contains(text, pixel)
		if pixel && kind != consents && (kind != mover || holds && !m.leaves) {
			say(&t.tracked, "TRACKED without consent", of)
		}
		if !pixel && kind == consents && !a.transactional {
			say(&t.missed, "UNTRACKED though agreed", of)
		}
		if !a.transactional && (kind == unsubscribed || holds && m.leaves) {
			say(&t.mailed, "MAILED though unsubscribed", of)
		}
		if !strings.Contains(text, "end of "+of.mark) {
			say(&t.lost, "CUT SHORT", of)
		}
	}
	return t
}

// kindOf is the address's local part without its number.
func kindOf(to string) string {
	local, _, _ := strings.Cut(to, "@")
	return strings.TrimRight(local, "0123456789")
}

// flowed returns when the first marketing copy for one of those that hit names arrived after a time; ok is
// false where none did yet.
func flowed(l *load, k *sink, after time.Time, hit func(to string) bool) (at time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	for of, came := range k.came {
		if a, answered := l.answers[of.mark]; answered && !a.transactional && came.After(after) && (at.IsZero() || came.Before(at)) && hit(of.to) {
			at = came
		}
	}
	return at, !at.IsZero()
}

// add adds to a cost what was answered in a window.
func (c *cost) add(l *load, from, to time.Time, cpu time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.answers {
		if a.begun.After(from) && a.begun.Before(to) {
			c.messages++
			if !a.transactional {
				c.took = append(c.took, a.took)
			}
		}
	}
	c.cpu += cpu
}
