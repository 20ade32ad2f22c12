package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// The matrix adds up what the tables say, and says what was not run.
func TestMatrix(t *testing.T) {
	machine := []*machineTally{
		{redisTally: &redisTally{fault: "each sync takes 300 ms longer", mode: "spool", delivered: 7, reported: 2, lost: 1}},
		{redisTally: &redisTally{fault: "each sync takes 300 ms longer", mode: "cutthrough", delivered: 3, doubled: 4, tracked: 5, mailed: 6}},
	}
	first := []*tally{{name: "spool, smarthost at random, killed", accepted: 50, delivered: 40, reported: 10, doubled: 3}}
	redis := []*redisTally{{fault: "paused (SIGSTOP)", mode: "stateless", delivered: 11}}
	many := newManyTally(time.Minute)
	many.delivered, many.reported = 300, 4
	got := matrix([]string{report(first), machineReport(machine), redisReport(redis), manyReport(many)})
	for _, want := range []string{
		"| each sync takes 300 ms longer:<br>accepted 13, delivered 10, reported 2, doubled 4, lost **1**, tracked **5**, mailed **6** |",
		"| spool, smarthost at random, killed:<br>accepted 50, delivered 40, reported 10, doubled 3, lost **0**, tracked **0**, mailed **0**<br>not run: cutthrough, smarthost at random, killed |",
		"paused (SIGSTOP):<br>accepted 11, delivered 11,",
		manyKilled + ":<br>accepted 304, delivered 300, reported 4,",
		"| not run: each sync fails with EIO |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// Each fault that is made stands in the matrix, and nothing else does.
func TestMatrixNamesAllFaults(t *testing.T) {
	var made, named []string
	for _, sc := range scenarios {
		made = append(made, sc.name)
	}
	for _, f := range machineFaults {
		made = append(made, f.name)
	}
	for _, f := range redisFaults {
		made = append(made, f.name)
	}
	made = append(made, manyKilled)
	for _, row := range matrixRows {
		if len(row.cells) != len(matrixColumns) {
			t.Errorf("%s has %d cells", row.name, len(row.cells))
		}
		for _, c := range row.cells {
			named = append(named, c.faults...)
			if len(c.faults) == 0 && c.why == "" {
				t.Errorf("%s has a cell that says nothing", row.name)
			}
		}
	}
	slices.Sort(made)
	slices.Sort(named)
	if !slices.Equal(made, named) {
		t.Errorf("made:\n%q\nin the matrix:\n%q", made, named)
	}
}
