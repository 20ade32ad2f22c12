// Command bench measures what goes through the built gateway: messages/s, CPU a message, memory
// and the time to the answer, with a real redis-server behind it and everything on: rewriting,
// the consent lookup, an RSA-2048 signature. make bench runs it.
//
// Everything is on one machine and over loopback: the load generator and the sink of this program,
// consentgate serve as an operator runs it, redis-server. In the same run it measures what the
// figures are to be read against: the load generator straight into the sink, a bare rsa.Sign, and
// with -peer Postfix with opendkim, which signs and does nothing else. Runs of the gateway and of
// the peer take turns, so that a machine that gets slower does so for both.
//
// With -held it looks at memory instead (make load): see held.go. With -stores it measures the
// consent stores: see stores.go. With -page it measures the page behind the unsubscribe link (make
// pagebench): see page.go.
//
// It is not for judging copies (testdata/e2e does), beyond making sure before it measures that
// the gateway does its work at all.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// limit bounds a whole run, whatever hangs.
const limit = 6 * time.Minute

type options struct {
	message string
	binary  string
	results string
	peer    bool
	held    bool
	stores  bool
	page    bool
	conns   []int
	rcpts   int
	people  int
	runs    int
	window  time.Duration
	warmUp  time.Duration
}

func main() {
	o := options{}
	conns := flag.String("conns", "10,50", "numbers of connections, parted by commas")
	flag.StringVar(&o.message, "message", "../shared/bench/msgs/news.eml", "the message; where it is missing, testdata/rewrite/newsletter.eml")
	flag.StringVar(&o.binary, "binary", "", "measure this gateway instead of one built now")
	flag.StringVar(&o.results, "results", "", "also write the report to this file")
	flag.BoolVar(&o.peer, "peer", false, "also measure Postfix with opendkim (both installed, as root)")
	flag.BoolVar(&o.held, "held", false, "do not measure speed, but what many connections and large messages take of memory")
	flag.BoolVar(&o.stores, "stores", false, "do not measure messages, but what the consent stores do")
	flag.BoolVar(&o.page, "page", false, "measure the page and one-click unsubscription instead, beside nginx")
	flag.IntVar(&o.rcpts, "rcpts", 1, "recipients a message; delivery mode stateless takes one")
	flag.IntVar(&o.people, "people", 10_000, "people in the store")
	flag.IntVar(&o.runs, "runs", 3, "runs, of which the median is given")
	flag.DurationVar(&o.window, "window", 4*time.Second, "length of a run")
	flag.DurationVar(&o.warmUp, "warm-up", 2*time.Second, "length of the warm-up")
	flag.Parse()
	for s := range strings.SplitSeq(*conns, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "bench: -conns %s: %q is no number of connections\n", *conns, s)
			os.Exit(2)
		}
		o.conns = append(o.conns, n)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	what := run
	if o.stores {
		what = stores
	}
	if err := what(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures all and prints the report.
func run(ctx context.Context, o options) (err error) {
	if o.people < o.rcpts || o.people < 4 || o.rcpts < 1 || o.runs < 1 {
		return errors.New("-people (at least 4, and as many as -rcpts), -rcpts and -runs are counts")
	}
	msg, err := readMessage(o.message, "testdata/rewrite/newsletter.eml")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "message: %s (%d bytes)\n", msg.path, msg.size())
	rep := &report{options: o, message: msg, machine: thisMachine()}

	dir, err := os.MkdirTemp("", "consentgate-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sink, err := startSink()
	if err != nil {
		return err
	}
	defer sink.close()
	s, err := newSite(ctx, dir, o.binary, msg.domain, sink.addr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if rep.versions, err = s.versions(ctx); err != nil {
		return err
	}
	if err := s.fill(ctx, o.people, msg.scope); err != nil {
		return err
	}
	if o.held {
		return s.hold(ctx, msg, sink, o.people)
	}
	if o.page {
		text, err := s.pages(ctx, o.runs, o.window)
		if err != nil {
			return err
		}
		fmt.Print(text)
		if o.results != "" {
			return os.WriteFile(o.results, []byte(text), 0o644)
		}
		return nil
	}
	var pf *peer
	if o.peer {
		pf, err = startPeer(ctx, filepath.Join(dir, "peer"), s.dkimKey, msg.domain, sink.addr)
		switch {
		case errors.Is(err, errNoPeer):
			rep.noPeer = err.Error()
			fmt.Fprintln(os.Stderr, "Postfix + opendkim:", err)
		case err != nil:
			return fmt.Errorf("the peer: %w", err)
		default:
			defer func() { err = errors.Join(err, pf.stop()) }()
			rep.peer = pf.versions
		}
	} else {
		rep.noPeer = "not measured: it was not asked for (make bench PEER=1, as root, with postfix and opendkim installed)"
	}

	for i, n := range o.conns {
		if i == 0 {
			if err := s.check(ctx, msg, sink); err != nil {
				return fmt.Errorf("the gateway does not do its work, so its speed says nothing: %w", err)
			}
		}
		if err := rep.measure(ctx, s, pf, sink, msg, n); err != nil {
			return err
		}
	}
	text := rep.text()
	fmt.Print(text)
	if o.results != "" {
		return os.WriteFile(o.results, []byte(text), 0o644)
	}
	return nil
}

// measure makes the rows for n connections.
func (r *report) measure(ctx context.Context, s *site, pf *peer, sink *sink, msg *message, n int) (err error) {
	fmt.Fprintf(os.Stderr, "%d connections\n", n)
	g, err := s.serve(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	pid := g.pid()
	l := load{message: msg, conns: n, rcpts: r.rcpts, people: r.people, window: r.window}

	type target struct {
		row  *row
		addr string
		pids func() []int // whose CPU and memory count
	}
	targets := []target{{&row{name: "consentgate", conns: n}, g.smtp, func() []int { return []int{pid} }}}
	if pf != nil {
		targets = append(targets, target{&row{name: "Postfix + opendkim", conns: n, sharesPages: true}, pf.smtp, pf.pids})
	}
	helpers := func() []int { return []int{s.redis.pid()} }
	straight := &row{name: "load generator straight to the sink", conns: n}

	for _, t := range targets {
		l := l
		l.addr, l.window = t.addr, r.warmUp
		if _, err := l.measure(ctx, sink, t.pids, helpers); err != nil {
			return fmt.Errorf("warm-up of %s: %w", t.row.name, err)
		}
	}
	for range r.runs {
		r.rsa = append(r.rsa, signAlone(s.dkimKey))
		for _, t := range targets {
			l := l
			l.addr = t.addr
			one, err := l.measure(ctx, sink, t.pids, helpers)
			if err != nil {
				return fmt.Errorf("%s with %d connections: %w", t.row.name, n, err)
			}
			t.row.runs = append(t.row.runs, one)
			fmt.Fprintf(os.Stderr, "  %-20s %6.0f/s  %.2f ms CPU  others' load %2.0f %%\n", t.row.name, one.rate, one.cpu, one.others)
		}
		l := l
		l.addr, l.window = sink.addr, time.Second
		one, err := l.measure(ctx, sink, func() []int { return nil }, helpers)
		if err != nil {
			return fmt.Errorf("straight to the sink: %w", err)
		}
		straight.runs = append(straight.runs, one)
	}
	targets[0].row.peak = status(pid, "VmHWM")
	for _, t := range targets {
		r.rows = append(r.rows, t.row)
	}
	r.rows = append(r.rows, straight)
	return nil
}

// freePort is a port of 127.0.0.1 that nothing listens on now.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// output runs a program to its end and returns what it said.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", name, err, out.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// until calls f every 10 ms until it succeeds, and returns its last error after wait.
func until(ctx context.Context, wait time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// greets says whether what listens on addr says something, as SMTP servers do, or answers a PING.
func greets(addr, ping, want string) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, ping); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("%s says %q", addr, got)
	}
	return nil
}
