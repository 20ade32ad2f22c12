package main

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"
)

// moment is so many seconds after a fixed time.
func moment(s int) time.Time { return time.Unix(1_700_000_000+int64(s), 0) }

func TestJudge(t *testing.T) {
	accepted := []event{{1, 1, moment(0)}, {2, 3, moment(1)}}
	for name, one := range map[string]struct {
		arrived []event
		want    string // in the error; "" is none
	}{
		"all":             {[]event{{2, 1, moment(3)}, {1, 1, moment(2)}, {2, 2, moment(4)}}, ""},
		"none":            {nil, "did not arrive"},
		"one is missing":  {[]event{{2, 3, moment(3)}}, "message 1 was accepted, and did not arrive for 1"},
		"a copy too few":  {[]event{{1, 1, moment(2)}, {2, 2, moment(3)}}, "message 2 was accepted, and did not arrive for 1"},
		"a copy too many": {[]event{{1, 1, moment(2)}, {2, 3, moment(3)}, {2, 1, moment(3)}}, "message 2 arrived for 1 recipients more"},
		// As many as there should be, but not those.
		"twice instead":  {[]event{{1, 1, moment(2)}, {1, 1, moment(2)}, {2, 2, moment(3)}}, "message"},
		"never accepted": {[]event{{1, 1, moment(2)}, {2, 3, moment(3)}, {3, 1, moment(3)}}, "message 3 arrived, which was not accepted"},
	} {
		err := judge(accepted, one.arrived)
		if (err == nil) != (one.want == "") || err != nil && !strings.Contains(err.Error(), one.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBacklog(t *testing.T) {
	for name, one := range map[string]struct {
		accepted, arrived []event
		depth             int
		age               time.Duration
	}{
		"answered behind the arrival": {[]event{{1, 1, moment(5)}}, []event{{1, 1, moment(4)}}, 0, 0},
		"one behind the other":        {[]event{{1, 1, moment(0)}, {2, 1, moment(2)}}, []event{{1, 1, moment(2)}, {2, 1, moment(3)}}, 1, 2 * time.Second},
		"two at a time":               {[]event{{1, 1, moment(0)}, {2, 1, moment(1)}, {3, 1, moment(9)}}, []event{{2, 1, moment(2)}, {1, 1, moment(7)}, {3, 1, moment(10)}}, 2, 7 * time.Second},
		"waits for its last copy":     {[]event{{1, 2, moment(0)}}, []event{{1, 1, moment(1)}, {1, 1, moment(4)}}, 1, 4 * time.Second},
	} {
		if depth, age := backlog(one.accepted, one.arrived); depth != one.depth || age != one.age {
			t.Errorf("%s: %d messages, %s, want %d, %s", name, depth, age, one.depth, one.age)
		}
	}
}

// What arrives of an earlier load, or without a number, is not counted.
func TestTally(t *testing.T) {
	s := startedSink(t)
	m, err := newMessage([]byte(dotted))
	if err != nil {
		t.Fatal(err)
	}
	send := func() *sent {
		t.Helper()
		got, err := load{addr: s.addr, message: m, conns: 1, rcpts: 2, people: 4, window: time.Minute, single: true}.run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := s.count(sequence.Load())
	got := send()
	if len(first.arrived) != 1 || first.copies.Load() != 2 || first.arrived[0].n != got.accepted[0].n || first.arrived[0].recipients != 2 {
		t.Errorf("%+v, accepted %+v", first.arrived, got.accepted)
	}
	second := s.count(sequence.Load() + 1)
	send()
	if len(second.arrived) != 0 || second.copies.Load() != 0 || len(first.arrived) != 1 {
		t.Errorf("%+v, and before that %+v", second.arrived, first.arrived)
	}
	if n := numbered([]byte("Message-ID: <old@shop.example.org>\r\n")); n != 0 {
		t.Errorf("a Message-ID of somebody else has the number %d", n)
	}
}

// A run is judged: what comes out of a gateway and was not brought to it by this run ends it.
func TestMeasureJudges(t *testing.T) {
	s := startedSink(t)
	m, err := newMessage([]byte(dotted))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	nobody := func() []int { return nil }
	l := load{addr: s.addr, message: m, conns: 1, rcpts: 1, people: 1, window: 100 * time.Millisecond}
	other, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		stranger := l
		for stranger.single = true; other.Err() == nil; {
			stranger.run(other)
		}
	})
	f, err := l.measure(ctx, s, nobody, nobody)
	stop()
	wg.Wait()
	if err == nil || !strings.Contains(err.Error(), "which was not accepted") && !strings.Contains(err.Error(), "did not arrive") {
		t.Errorf("%+v, %v", f, err)
	}
}
