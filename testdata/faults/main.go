// Command faults breaks the gateway on purpose and counts what becomes of the mail: a smarthost that
// refuses, stalls, resets and closes at random, SIGKILL and now and then SIGTERM, and a disk that is full
// for some of the time. What was answered 250 must be found at the smarthost, or in a report to its
// sender. What is there twice though the smarthost said that it has it was on its way at a SIGKILL: no more
// than the connections to the smarthost for each.
//
// A second part does the same with Redis: killed, paused, slow, wrong, emptied, failing over, with people who
// change their mind meanwhile. What a person had confirmed must hold, whatever happens to Redis.
//
// Another strikes what surrounds a gateway: its disk, its clock, the network on all sides of it, its process, and its smarthost.
//
// A further one puts three gateways behind HAProxy, on a Redis Cluster, and strikes them in turn.
//
// The soak runs one gateway for long, at half of what it can, with a fault in turn, and sees that it does not grow.
//
// make faults runs all but the soak, which is make soak. It prints tables and ends with status 1 where a message was lost or went where it must not. It builds
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
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	var times durations
	flag.DurationVar(&times.first, "time", 4*time.Minute, "how long load and faults last, over all rows; draining comes on top; 0 leaves this part out")
	flag.DurationVar(&times.machine, "machine-time", 3*time.Minute, "the same for the part with clock, disk, network and process")
	flag.DurationVar(&times.redis, "redis-time", 4*time.Minute, "the same for the part with Redis")
	flag.DurationVar(&times.many, "many-time", 90*time.Second, "the same for the part with many gateways")
	flag.DurationVar(&times.soak, "soak-time", 0, "how long one gateway runs at half of what it can, with a fault in turn; 0 = not")
	only := flag.String("fault", "", "only those of machine and network, and of Redis, whose name holds this")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of what is random")
	results := flag.String("results", "", "file to write the tables to; that of a part left out stays")
	soakResults := flag.String("soak-results", "", "file to write the soak's table to")
	keep := flag.Bool("keep", false, "keep the folder with the gateway's log, also when all is well")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, times, *only, *seed, *keep, *results, *soakResults); err != nil {
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

// durations are those of the parts.
type durations struct{ first, machine, redis, many, soak time.Duration }

func run(ctx context.Context, times durations, only string, seed uint64, keep bool, results, soakResults string) error {
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
	// part runs one, unless it is left out; made is its section, once it ran.
	part := func(into *string, what string, d time.Duration, run func() (made string, wrong bool, err error)) error {
		if d == 0 {
			return nil
		}
		made, wrong, err := run()
		var skip skipped
		if errors.As(err, &skip) {
			fmt.Printf("SKIPPED: %s: %v\n", what, err)
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w; the folder stays: %s", what, err, dir)
		}
		bad = bad || wrong
		*into = made
		fmt.Print("\n", made, "\n")
		return nil
	}
	if err := part(&text[partFirst], "smarthost and disk", times.first, func() (string, bool, error) {
		rows, err := runAll(ctx, dir, binary, times.first, seed)
		return report(rows), slices.ContainsFunc(rows, (*tally).bad), err
	}); err != nil {
		return err
	}
	if err := part(&text[partMachine], "machine and network", times.machine, func() (string, bool, error) {
		rows, err := runMachine(ctx, dir, binary, times.machine, only, seed)
		return machineReport(rows), slices.ContainsFunc(rows, (*machineTally).bad), err
	}); err != nil {
		return err
	}
	if err := part(&text[partRedis], "Redis", times.redis, func() (string, bool, error) {
		rows, err := runRedis(ctx, dir, binary, times.redis, only, seed)
		return redisReport(rows), slices.ContainsFunc(rows, (*redisTally).bad), err
	}); err != nil {
		return err
	}
	if err := part(&text[partMany], "many gateways", times.many, func() (string, bool, error) {
		t, err := runMany(ctx, dir, binary, times.many, seed)
		if err != nil {
			return "", false, err
		}
		return manyReport(t), t.bad(), nil
	}); err != nil {
		return err
	}
	var soaked string
	if err := part(&soaked, "soak", times.soak, func() (string, bool, error) {
		t, err := runSoak(ctx, dir, binary, times.soak, seed)
		if err != nil {
			return "", false, err
		}
		return soakReport(t), t.bad(), nil
	}); err != nil {
		return err
	}
	if soaked != "" && soakResults != "" {
		if err := os.WriteFile(soakResults, []byte(soaked), 0o644); err != nil {
			return err
		}
	}
	if results != "" {
		if err := writeSections(results, text); err != nil {
			return err
		}
	}
	if bad {
		return fmt.Errorf("something is not as it must be (the tables say what: mail lost, mail that went where it must not, a gateway that grew); the folder stays: %s", dir)
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
			return nil, fmt.Errorf("%s: %w", sc.name, err)
		}
		rows = append(rows, t)
	}
	return rows, nil
}

// parts are the headings of the sections, in their order; the matrix, which is made of them, stands before.
var parts = [...]string{"## Smarthost, SIGKILL and a full disk", "## Machine and network", "## Redis", "## Many gateways"}

const (
	partFirst = iota
	partMachine
	partRedis
	partMany
)

// sections are those of the file as it is; what is not there is "".
func sections(results string) (text [len(parts)]string, err error) {
	all, err := os.ReadFile(results)
	if errors.Is(err, os.ErrNotExist) {
		return text, nil
	}
	rest := "\n" + string(all)
	for i := len(parts) - 1; i >= 0; i-- { // they stand in this order
		var found bool
		if rest, text[i], found = strings.Cut(rest, "\n"+parts[i]+"\n"); found {
			text[i] = parts[i] + "\n" + text[i]
		}
	}
	return text, err
}

func writeSections(results string, text [len(parts)]string) error {
	all := []string{strings.TrimSpace(matrix(text[:]))}
	for _, section := range text {
		if section = strings.TrimSpace(section); section != "" {
			all = append(all, section)
		}
	}
	return os.WriteFile(results, []byte(strings.Join(all, "\n\n")+"\n"), 0o644)
}
