package main

import (
	"strings"
	"testing"
)

func TestMedianAndTimes(t *testing.T) {
	if m := median([]float64{9, 1, 5}); m != 5 {
		t.Errorf("median of three: %v", m)
	}
	if m := median([]float64{4, 2}); m != 3 {
		t.Errorf("median of two: %v", m)
	}
	// A machine that gets slower by half: neighbours are compared, not medians of all.
	a := &row{runs: []figures{{rate: 900}, {rate: 400}, {rate: 350}}}
	b := &row{runs: []figures{{rate: 300}, {rate: 200}, {rate: 100}}}
	if x := a.times(b, rate); x != 3 {
		t.Errorf("%v times", x)
	}
}

func TestReport(t *testing.T) {
	b := &bench{peers: &peers{missing: map[string]string{harakaFilter: "no npm"}}}
	rows := []*row{
		{name: "consentgate stateless", own: true, conns: 10, rcpts: 2, peak: 30, sign: 0.5,
			runs: []figures{{rate: 900, cpu: 1.4, memory: 20, others: 30}, {rate: 1100, cpu: 1.6, memory: 22, others: 30}}},
		{name: postfixSigned, conns: 10, rcpts: 2, runs: []figures{{rate: 400, cpu: 5, memory: 90}, {rate: 400, cpu: 5, memory: 90}}},
		{name: postfixSigned, conns: 50, rcpts: 2, runs: []figures{{rate: 1, cpu: 5}}},
		{name: postfixPlain, conns: 10, rcpts: 2, failed: "a message\nis lost"}, // and it has no run
	}
	s := &section{title: "A part", table: table(rows, named, connections, perSecond, spread, cpuEach, cpuCopy, cpuBeside, memory, peak)}
	s.aims = []aim{
		b.ratio(rows, rows[0].name, postfixSigned, 10, "messages/s", rate, 3),
		b.ratio(rows, rows[0].name, harakaFilter, 10, "messages/s", rate, 4),
		b.ratio(rows, rows[0].name, postfixPlain, 10, "messages/s", rate, 2),
		b.ratio(rows, rows[0].name, postfixSigned, 10, "shown only", rate, 0),
		{what: "CPU", got: besideSign(rows[0]), unit: "ms", sense: "≤", want: 0.25},
		{what: "memory", got: 64, unit: "MB", sense: "<", want: 64},
	}
	r := &report{missing: b.peers.missing, loudest: 3, sign: 0.5, sections: []*section{s}}
	text := r.text()
	for _, want := range []string{" 1000 |", "900–1100", " 1.50 |", " 0.75 |", " 0.25 |", "90 (PSS)", " 30 |",
		"2.50 times | ≥ 3 times | **no** |", "not measured", "0.25 ms", "≤ 0.25 ms |    yes |", "< 64 MB | **no** |",
		"failed: a message is lost", "**1 of 4 aims are met.** 1 more were not measured.", "- A part: consentgate stateless, 10 connections: messages/s beside Postfix + opendkim: 2.50 times, aim ≥ 3 times", "**Haraka + body filter was left out: no npm.**"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "not quiet") || strings.Contains(text, "NaN") {
		t.Error(text)
	}
	r.loudest = 30
	if !strings.Contains(r.text(), "not quiet") {
		t.Error("a machine used by others is not told of")
	}
}
