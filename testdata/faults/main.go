// Command faults breaks the gateway on purpose and counts what becomes of the mail: a smarthost that
// refuses, stalls, resets and closes at random, SIGKILL and now and then SIGTERM, a disk that is full
// for some of the time, and a Redis that is killed, paused, slow, answers errors or fails over. What was answered 250 must be found at the smarthost, or in a report to its
// sender. What is there twice though the smarthost said that it has it was on its way at a SIGKILL: no more
// than the connections to the smarthost for each.
//
// make faults runs it. It prints a table and ends with status 1 where a message was lost. It builds
// and starts the gateway itself, stops it by its process id, and speaks to loopback addresses only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	duration := flag.Duration("time", 4*time.Minute, "how long load and faults last, over all rows; draining comes on top")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of what is random")
	results := flag.String("results", "", "file to write the table to")
	keep := flag.Bool("keep", false, "keep the folder with the gateway's log, also when all is well")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *duration, *seed, *keep, *results); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

// inFlight is max_connections of the smarthost, which is how many copies can be under way.
const inFlight = 20

// scenario is a row of the table.
type scenario struct {
	name     string
	mode     string
	kill     time.Duration // SIGKILL or SIGTERM about that often; 0 = never
	fullDisk bool
	share    float64 // of the time
	redis    string  // what is disturbed in the gateway's stead, as often: "alone" or "sentinel"; "" = nothing
}

var scenarios = []scenario{
	{"cutthrough, smarthost at random, killed", "cutthrough", 2 * time.Second, false, 0.25, ""},
	{"spool, smarthost at random, killed", "spool", 2 * time.Second, false, 0.25, ""},
	{"cutthrough, disk full now and then, killed", "cutthrough", 4 * time.Second, true, 0.1, ""},
	{"spool, disk full now and then, killed", "spool", 4 * time.Second, true, 0.1, ""},
	{"cutthrough, Redis killed, paused, slow, answering errors", "cutthrough", 2 * time.Second, false, 0.1, "alone"},
	{"spool, Redis killed, paused, slow, answering errors", "spool", 2 * time.Second, false, 0.1, "alone"},
	{"spool, Redis failing over", "spool", 4 * time.Second, false, 0.1, "sentinel"},
}

func run(ctx context.Context, duration time.Duration, seed uint64, keep bool, results string) error {
	dir, err := os.MkdirTemp("", "consentgate-faults-")
	if err != nil {
		return err
	}
	fmt.Printf("folder %s, seed %d\n", dir, seed)
	binary, err := build(ctx, dir)
	if err != nil {
		return err
	}
	var rows []*tally
	bad := false
	for _, sc := range scenarios {
		home := filepath.Join(dir, fmt.Sprint(len(rows)))
		t, err := sc.run(ctx, home, binary, time.Duration(float64(duration)*sc.share), seed)
		var skip skipped
		if errors.As(err, &skip) {
			fmt.Printf("SKIPPED: %s: %v\n", sc.name, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w; the folder stays", sc.name, err)
		}
		rows = append(rows, t)
		bad = bad || t.lost > 0 || t.needless > inFlight*t.kills || t.tracked > 0 || t.mailed > 0
		seed++
	}
	text := report(rows)
	fmt.Print("\n", text)
	if results != "" {
		if err := os.WriteFile(results, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if bad {
		return fmt.Errorf("mail was lost, or went where it must not; the folder stays: %s", dir)
	}
	if keep {
		return nil
	}
	return os.RemoveAll(dir)
}
