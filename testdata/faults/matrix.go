package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The matrix at the top of the results: what is struck, and how. It is read from the tables that stand under it, so it
// cannot say anything else than they do.

// cellFaults names the faults of a cell, each by the first column of a table below; why says what an empty one is.
type cellFaults struct {
	faults []string
	why    string
}

var matrixColumns = []string{"slow", "wrong", "gone", "back"}

// manyKilled stands for the table of the many gateways, which has one row without a name.
const manyKilled = "three gateways behind HAProxy killed, stopped, ended and without Redis in turn"

var matrixRows = []struct {
	name  string
	cells []cellFaults
}{
	{"Redis", []cellFaults{
		{faults: []string{"each answer 100 ms late", "each answer 1 s late", "busy (CLIENT PAUSE)"}},
		{faults: []string{"answers errors: -LOADING, -ERR, -READONLY, garbage", "made a replica (reads, no writes)", "resets every connection within 4 KB"}},
		{faults: []string{"killed, started again with its data", "paused (SIGSTOP)", "Sentinel, the primary killed", "Cluster, a primary killed"}},
		{faults: []string{"emptied, then its data brought back", "emptied while the gateways restart, then its data brought back", "Sentinel, the primary paused until another took its place", "Cluster, a primary paused until another took its place"}},
	}},
	{"smarthost", []cellFaults{
		{faults: []string{"smarthost answers 500 ms late"}},
		{faults: []string{"cutthrough, smarthost at random, killed", "spool, smarthost at random, killed"}},
		{faults: []string{"smarthost refuses connections"}},
		{faults: []string{"smarthost is back after 5 s and answers 451 for 1 s"}},
	}},
	{"disk", []cellFaults{
		{faults: []string{"each sync takes 300 ms longer"}},
		{faults: []string{"each sync fails with EIO"}},
		{faults: []string{"cutthrough, disk full now and then, killed", "spool, disk full now and then, killed"}},
		{why: "there is room again, and a sync works again, in the runs on the left; a disk that is another one than before is not run"},
	}},
	{"clock", []cellFaults{
		{faults: []string{"clock goes at half its speed, then is set right"}},
		{faults: []string{"clock jumps 6 h ahead while mail waits, and later back"}},
		{faults: []string{"clock is lost: 1970, until it is set"}},
		{faults: []string{"clock jumps 6 h back while mail waits, and later ahead"}},
	}},
	{"network", []cellFaults{
		{faults: []string{"answers 300 ms late, at 4 KB/s"}},
		{faults: []string{"connections reset midway in a message or an answer"}},
		{faults: []string{"a black hole without a reset, then the connections are gone"}},
		{faults: []string{"a black hole without a reset, then what it held goes on"}},
	}},
	{"process", []cellFaults{
		{faults: []string{"stopped half of the time"}},
		{faults: []string{"told to read a broken configuration (SIGHUP)"}},
		{faults: []string{"stopped (SIGSTOP) for 2.5 s"}},
		{faults: []string{"killed (SIGKILL), and started again", "ended (SIGTERM), and started again", manyKilled}},
	}},
}

// outcome are the copies of a fault, or of several.
type outcome struct {
	accepted, delivered, reported, doubled, lost, tracked, mailed int
}

func (o *outcome) add(p outcome) {
	o.accepted += p.accepted
	o.delivered += p.delivered
	o.reported += p.reported
	o.doubled += p.doubled
	o.lost += p.lost
	o.tracked += p.tracked
	o.mailed += p.mailed
}

func (o outcome) String() string {
	return fmt.Sprintf("accepted %d, delivered %d, reported %d, doubled %d, lost **%d**, tracked **%d**, mailed **%d**",
		o.accepted, o.delivered, o.reported, o.doubled, o.lost, o.tracked, o.mailed)
}

// outcomes reads the tables of the sections: what came of each fault, in all modes together.
func outcomes(text []string) map[string]outcome {
	all := map[string]outcome{}
	for _, section := range text {
		var head []string
		for line := range strings.Lines(section) {
			line = strings.TrimSpace(line)
			if !strings.HasPrefix(line, "|") {
				head = nil
				continue
			}
			cells := strings.Split(strings.Trim(line, "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			if head == nil {
				head = cells
				continue
			}
			if strings.HasPrefix(cells[0], "---") {
				continue
			}
			number := func(names ...string) int {
				for _, name := range names {
					if i := slices.Index(head, name); i >= 0 && i < len(cells) {
						n, _ := strconv.Atoi(strings.Trim(cells[i], "*"))
						return n
					}
				}
				return 0
			}
			name := cells[0]
			if !strings.HasPrefix(head[0], "what is wrong") {
				name = manyKilled
			}
			o := outcome{delivered: number("delivered", "copies delivered"), reported: number("reported"), doubled: number("doubled"), lost: number("lost"),
				tracked: number("tracked without consent"), mailed: number("mailed though unsubscribed")}
			o.accepted = o.delivered + o.reported + o.lost
			if slices.Contains(head, "copies owed") {
				o.accepted = number("copies owed")
			}
			o.add(all[name])
			all[name] = o
		}
	}
	return all
}

// matrix is the top of the results.
func matrix(text []string) string {
	all := outcomes(text)
	var b strings.Builder
	b.WriteString(`# Faults

Written by ` + "`make faults`" + `, from the tables below. Each fault is made under load, ends, and is made again, and each run ends with all well and the spool empty. A cell names its faults, and
counts copies, one recipient of one message each, of all of them and of all modes: accepted (the message was answered 250), delivered, reported (the sender was told, which is right for people
who unsubscribed and those whom the smarthost refuses), delivered more than once, lost, with tracking for somebody who did not agree, and mailed to somebody who unsubscribed.

`)
	fmt.Fprintf(&b, "| | %s |\n|%s\n", strings.Join(matrixColumns, " | "), strings.Repeat("---|", len(matrixColumns)+1))
	for _, row := range matrixRows {
		fmt.Fprintf(&b, "| **%s** |", row.name)
		for _, cell := range row.cells {
			var sum outcome
			var ran, notRun []string
			for _, f := range cell.faults {
				if o, ok := all[f]; ok {
					sum.add(o)
					ran = append(ran, f)
				} else {
					notRun = append(notRun, f)
				}
			}
			var said []string
			if len(ran) > 0 {
				said = append(said, strings.Join(ran, "; ")+":<br>"+sum.String())
			}
			if len(notRun) > 0 {
				said = append(said, "not run: "+strings.Join(notRun, "; "))
			}
			if cell.why != "" {
				said = append(said, cell.why)
			}
			fmt.Fprintf(&b, " %s |", strings.Join(said, "<br>"))
		}
		b.WriteString("\n")
	}
	return b.String()
}
