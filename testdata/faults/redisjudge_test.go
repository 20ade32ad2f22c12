package main

import (
	"context"
	"maps"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
)

// A relay that asks nobody, namely none at all, is found out.
func TestJudgeOfARelayThatEnforcesNothing(t *testing.T) {
	k, err := newSink(1)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	earlier := time.Now().Add(-time.Second)
	c := &crowd{minds: []*mind{{address: "mind0@example.com", taken: earlier}, {address: "mind1@example.com", leaves: true, taken: earlier}}}
	l := newLoad(k.addr, "x")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	written, some := atomic.Int64{}, c.write(false)
	l.write = func(mark string, random *rand.Rand) letter {
		if written.Add(1) == 300 {
			cancel()
		}
		return some(mark, random)
	}
	l.run(ctx, 2, 0, 1)
	r := judgeRedis(l, k, c, 0)
	if r.messages == 0 || r.delivered == 0 || r.tested == 0 || r.tracked == 0 || r.mailed == 0 || !r.bad() {
		t.Errorf("%+v", r)
	}
	if r.lost+r.doubled+r.missed+r.held > 0 {
		t.Errorf("what it did right is held against it: %+v", r)
	}
}

func TestJudge(t *testing.T) {
	begun := time.Now()
	tracked, plain := message("m", "", 300), "Subject: mark m\r\n\r\nend of m\r\n"
	for name, tt := range map[string]struct {
		to, text      string
		code, times   int
		report        string
		transactional bool
		mind          mind
		want          map[string]int
	}{
		"agreed":                            {to: "both1@example.com", text: tracked, times: 1},
		"agreed, untracked":                 {to: "both1@example.com", text: plain, times: 1, want: map[string]int{"missed": 1}},
		"the same, transactional":           {to: "both1@example.com", text: plain, times: 1, transactional: true},
		"never asked":                       {to: "reader1@example.com", text: plain, times: 1},
		"never asked, tracked":              {to: "reader1@example.com", text: tracked, times: 1, want: map[string]int{"tracked": 1}},
		"denied, tracked":                   {to: "never1@example.com", text: tracked, times: 1, want: map[string]int{"tracked": 1}},
		"denied, tracked in a 451":          {to: "never1@example.com", text: tracked, times: 1, code: 451, want: map[string]int{"tracked": 1}},
		"denied, transactional":             {to: "never1@example.com", text: tracked, times: 1, transactional: true, want: map[string]int{"tracked": 1}},
		"unsubscribed":                      {to: "gone1@example.com", report: "5.7.1"},
		"unsubscribed, mailed":              {to: "gone1@example.com", text: plain, times: 1, want: map[string]int{"mailed": 1}},
		"unsubscribed, a receipt":           {to: "gone1@example.com", text: plain, times: 1, transactional: true},
		"lost":                              {to: "reader1@example.com", want: map[string]int{"lost": 1}},
		"bounced for no reason":             {to: "reader1@example.com", report: "5.7.1", want: map[string]int{"lost": 1}},
		"answered 451":                      {to: "reader1@example.com", code: 451},
		"a receipt is answered 451":         {to: "reader1@example.com", code: 451, transactional: true, want: map[string]int{"held": 1}},
		"a receipt, and the gateway leaves": {to: "reader1@example.com", code: 421, transactional: true},
		"twice":                             {to: "reader1@example.com", text: plain, times: 2, want: map[string]int{"doubled": 1}},
		"cut short":                         {to: "reader1@example.com", text: "Subject: mark m\r\n\r\nend", times: 1, want: map[string]int{"lost": 1}},
		"withdrawn before":                  {to: "mind0@example.com", text: tracked, times: 1, mind: mind{taken: begun.Add(-time.Millisecond)}, want: map[string]int{"tracked": 1}},
		"withdrawn after":                   {to: "mind0@example.com", text: tracked, times: 1, mind: mind{taken: begun.Add(time.Millisecond)}},
		"withdrawn, not confirmed":          {to: "mind0@example.com", text: tracked, times: 1},
		"withdrawn just elsewhere":          {to: "mind0@example.com", text: tracked, times: 1, mind: mind{by: 1, taken: begun.Add(-elsewhere / 2)}},
		"withdrawn elsewhere before":        {to: "mind0@example.com", text: tracked, times: 1, mind: mind{by: 1, taken: begun.Add(-2 * elsewhere)}, want: map[string]int{"tracked": 1}},
		"left before":                       {to: "mind0@example.com", text: tracked, times: 1, mind: mind{leaves: true, taken: begun.Add(-time.Millisecond)}, want: map[string]int{"mailed": 1}},
		"left after":                        {to: "mind0@example.com", text: tracked, times: 1, mind: mind{leaves: true, taken: begun.Add(time.Millisecond)}},
		"left, and told so":                 {to: "mind0@example.com", report: "5.7.1", mind: mind{leaves: true, taken: begun.Add(time.Millisecond)}},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.code == 0 {
				tt.code = 250
			}
			tt.mind.address = "mind0@example.com"
			l := newLoad("", "")
			l.answers["m"] = answer{letter{to: []string{tt.to}, transactional: tt.transactional}, tt.code, begun, 0}
			of := copyOf{"m", tt.to}
			k := &sink{copies: map[copyOf]int{of: tt.times}, text: map[copyOf]string{}, reports: map[copyOf]string{of: tt.report}}
			if tt.times > 0 {
				k.text[of] = tt.text
			}
			r := judgeRedis(l, k, &crowd{minds: []*mind{&tt.mind}}, 0)
			got := map[string]int{"lost": r.lost, "doubled": r.doubled, "tracked": r.tracked, "mailed": r.mailed, "missed": r.missed, "held": r.held}
			maps.DeleteFunc(got, func(_ string, n int) bool { return n == 0 })
			if !maps.Equal(got, tt.want) || r.bad() != (len(tt.want) > 0) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestFlowed(t *testing.T) {
	back := time.Now()
	l := newLoad("", "")
	k := &sink{came: map[copyOf]time.Time{}}
	arrives := func(mark, to string, late time.Duration, transactional bool) {
		l.answers[mark] = answer{letter: letter{transactional: transactional}}
		k.came[copyOf{mark, to}] = back.Add(late)
	}
	arrives("before", "reader1@example.com", -time.Second, false)
	arrives("receipt", "reader1@example.com", time.Millisecond, true)
	arrives("other", "reader2@example.com", 2*time.Millisecond, false)
	hit := func(to string) bool { return to == "reader1@example.com" }
	if at, ok := flowed(l, k, back, hit); ok {
		t.Errorf("it flowed at %v", at)
	}
	arrives("second", "reader1@example.com", 4*time.Millisecond, false)
	arrives("first", "reader1@example.com", 3*time.Millisecond, false)
	if at, ok := flowed(l, k, back, hit); !ok || at.Sub(back) != 3*time.Millisecond {
		t.Errorf("%v %v", at, ok)
	}
}
