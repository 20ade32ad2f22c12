// Command faults breaks the gateway on purpose and counts what becomes of the mail: a smarthost that
// refuses, stalls, resets and closes at random, SIGKILL and now and then SIGTERM, and a disk that is full
// for some of the time. What was answered 250 must be found at the smarthost, or in a report to its
// sender. What is there twice though the smarthost said that it has it was on its way at a SIGKILL: no more
// than the connections to the smarthost for each.
//
// A second part does the same with Redis: killed, paused, slow, wrong, emptied, failing over, with people who
// change their mind meanwhile. What a person had confirmed must hold, whatever happens to Redis.
//
// A third puts three gateways behind HAProxy, on a Redis Cluster, and kills them in turn.
//
// make faults runs all. It prints tables and ends with status 1 where a message was lost or went where it must not. It builds
// and starts the gateway and Redis itself, stops them by their process ids, and speaks to loopback addresses only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	duration := flag.Duration("time", 4*time.Minute, "how long load and faults last, over all rows; draining comes on top; 0 leaves this part out")
	redisDuration := flag.Duration("redis-time", 4*time.Minute, "the same for the part with Redis")
	manyDuration := flag.Duration("many-time", 90*time.Second, "the same for the part with many gateways")
	only := flag.String("redis-fault", "", "only those of Redis whose name holds this")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of what is random")
	results := flag.String("results", "", "file to write the tables to; that of a part left out stays")
	keep := flag.Bool("keep", false, "keep the folder with the gateway's log, also when all is well")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *duration, *redisDuration, *manyDuration, *only, *seed, *keep, *results); err != nil {
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
}

var scenarios = []scenario{
	{"cutthrough, smarthost at random, killed", "cutthrough", 2 * time.Second, false, 0.35},
	{"spool, smarthost at random, killed", "spool", 2 * time.Second, false, 0.35},
	{"cutthrough, disk full now and then, killed", "cutthrough", 4 * time.Second, true, 0.15},
	{"spool, disk full now and then, killed", "spool", 4 * time.Second, true, 0.15},
}

func run(ctx context.Context, duration, redisDuration, manyDuration time.Duration, only string, seed uint64, keep bool, results string) error {
	dir, err := os.MkdirTemp("", "consentgate-faults-")
	if err != nil {
		return err
	}
	fmt.Printf("folder %s, seed %d\n", dir, seed)
	binary, err := build(ctx, dir)
	if err != nil {
		return err
	}
	text, err := sections(results)
	if err != nil {
		return err
	}
	bad := false
	if duration > 0 {
		rows, err := runAll(ctx, dir, binary, duration, seed)
		if err != nil {
			return err
		}
		for _, t := range rows {
			bad = bad || t.lost > 0 || t.needless > inFlight*t.kills || t.tracked > 0 || t.mailed > 0
		}
		text[0] = report(rows)
		fmt.Print("\n", text[0], "\n")
	}
	if redisDuration > 0 {
		rows, err := runRedis(ctx, dir, binary, redisDuration, only, seed)
		var skip skipped
		if errors.As(err, &skip) {
			fmt.Printf("SKIPPED: Redis: %v\n", err)
		} else if err != nil {
			return err
		} else {
			for _, t := range rows {
				bad = bad || t.bad()
			}
			text[1] = redisReport(rows)
			fmt.Print("\n", text[1])
		}
	}
	if manyDuration > 0 {
		t, err := runMany(ctx, dir, binary, manyDuration, seed)
		var skip skipped
		if errors.As(err, &skip) {
			fmt.Printf("SKIPPED: many gateways: %v\n", err)
		} else if err != nil {
			return fmt.Errorf("many gateways: %w; the folder stays: %s", err, dir)
		} else {
			bad = bad || t.bad()
			text[2] = manyReport(t)
			fmt.Print("\n", text[2])
		}
	}
	if results != "" {
		if err := writeSections(results, text); err != nil {
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

// runAll runs the scenarios of the first part.
func runAll(ctx context.Context, dir, binary string, duration time.Duration, seed uint64) (rows []*tally, err error) {
	for i, sc := range scenarios {
		home := filepath.Join(dir, fmt.Sprint(i))
		t, err := sc.run(ctx, home, binary, time.Duration(float64(duration)*sc.share), seed+uint64(i))
		var skip skipped
		if errors.As(err, &skip) {
			fmt.Printf("SKIPPED: %s: %v\n", sc.name, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w; the folder stays", sc.name, err)
		}
		rows = append(rows, t)
	}
	return rows, nil
}

// parts are the headings of the sections behind the first.
var parts = [...]string{"## Redis", "## Many gateways"}

// sections are those of the file as it is; what is not there is "".
func sections(results string) (text [1 + len(parts)]string, err error) {
	all, err := os.ReadFile(results)
	if errors.Is(err, os.ErrNotExist) {
		return text, nil
	}
	rest := "\n" + string(all)
	for i := len(parts) - 1; i >= 0; i-- { // they stand in this order
		var found bool
		if rest, text[i+1], found = strings.Cut(rest, "\n"+parts[i]+"\n"); found {
			text[i+1] = parts[i] + "\n" + text[i+1]
		}
	}
	text[0] = rest
	return text, err
}

func writeSections(results string, text [1 + len(parts)]string) error {
	var all []string
	for _, section := range text {
		if section = strings.TrimSpace(section); section != "" {
			all = append(all, section)
		}
	}
	return os.WriteFile(results, []byte(strings.Join(all, "\n\n")+"\n"), 0o644)
}
