// Command bench measures what goes through the built gateway: messages/s, CPU a message, memory
// and the time to the answer, with a real redis-server behind it and everything on: rewriting,
// the consent lookup, an RSA-2048 signature. make bench runs it.
//
// Everything is on one machine and over loopback: the load generator and the sink of this program,
// consentgate serve as an operator runs it, redis-server. In the same run it measures what the
// figures are to be read against: the load generator straight into the sink, a bare rsa.Sign,
// Postfix, Postfix with opendkim, Haraka with a filter. Runs of the gateway and of the peers take
// turns, so that a machine that gets slower does so for all. Each figure stands beside its aim.
//
// It is made of parts, each in the file of its name or in parts.go:
//
//	newsletter  50 KB to one person, in modes cutthrough and stateless, beside all peers
//	recipients  to 10 and to 1,000 people in one transaction
//	spool       on disk before the answer, beside Postfix
//	text        2 KB to one person
//	latency     what is added to a message's way, one at a time
//	growth      sizes to 50 MB, 1,000 recipients, 1,000 connections: is it linear?
//	stores      the consent stores: lookups, imports, memory
//	page        the page behind the unsubscribe link, beside nginx (make pagebench)
//	held        memory with many connections and large messages (make load)
//
// The first six make one report, RESULTS.md. It is not for judging copies (testdata/e2e does), beyond
// making sure before it measures that the gateway, and each peer, does its work at all.
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

// limit bounds a whole run, whatever hangs.
const limit = 11 * time.Minute

type options struct {
	parts   []string
	binary  string
	results string
	peers   bool
	runs    int
	window  time.Duration
	scale
}

// scale is how much is tried. It is smaller in tests.
type scale struct {
	conns          []int // connections at once; the part text takes the first
	many           int   // recipients a message, the most
	people         int   // in the store
	attachedSizes  []int
	htmlSizes      []int
	recipientsEach []int
	connectionsAll []int
}

var full = scale{conns: []int{10, 50}, many: 1000, people: 10_000,
	attachedSizes: attachedSizes, htmlSizes: htmlSizes, recipientsEach: recipientsEach, connectionsAll: connectionsAll}

var (
	mailParts = []string{"newsletter", "recipients", "spool", "text", "latency", "growth"}
	elseParts = []string{"stores", "page", "held"}
)

func main() {
	o := options{scale: full}
	only := flag.String("only", "stores,"+strings.Join(mailParts, ","), "the parts to run, of those and of page and held")
	flag.BoolVar(&o.peers, "peers", true, "also measure those of Postfix, opendkim and Haraka that this machine can run")
	flag.StringVar(&o.binary, "binary", "", "measure this gateway instead of one built now")
	flag.StringVar(&o.results, "results", "", "also write the reports into this folder")
	flag.IntVar(&o.runs, "runs", 3, "runs, of which the median is given")
	flag.DurationVar(&o.window, "window", 3*time.Second, "length of a run")
	flag.Parse()
	for name := range strings.SplitSeq(*only, ",") {
		if !slices.Contains(mailParts, name) && !slices.Contains(elseParts, name) {
			fmt.Fprintf(os.Stderr, "bench: -only %s: there is no part %q, but %s\n", *only, name, strings.Join(append(mailParts, elseParts...), ", "))
			os.Exit(2)
		}
		o.parts = append(o.parts, name)
	}
	if o.runs < 1 || o.window < 100*time.Millisecond || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "bench: -runs is a count, -window at least 100ms, and nothing follows the options")
		os.Exit(2)
	}
	if o.results != "" { // known before the figures are there, and not behind them
		if err := os.MkdirAll(o.results, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run runs the parts that were asked for and prints their reports. The stores, which have a report of
// their own, come first; should that fail, the others are run all the same.
func run(ctx context.Context, o options) (err error) {
	if slices.Contains(o.parts, "stores") {
		text, failed := stores(ctx)
		if failed == nil {
			failed = o.publish("STORES.md", text)
		}
		if failed != nil {
			fmt.Fprintln(os.Stderr, "stores failed:", failed)
			defer func() { err = errors.Join(fmt.Errorf("stores: %w", failed), err) }()
		}
	}
	var mail []string
	for _, name := range o.parts {
		if name != "stores" {
			mail = append(mail, name)
		}
	}
	if mail == nil {
		return nil
	}
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if slices.Contains(mail, "held") {
		if err := b.site.hold(ctx, b.letter, b.sink, b.people); err != nil {
			return err
		}
	}
	if slices.Contains(mail, "page") {
		text, err := b.site.pages(ctx, b.runs, b.window)
		if err != nil {
			return err
		}
		if err := o.publish("RESULTS-page.md", text); err != nil {
			return err
		}
	}
	text, failed := b.mail(ctx, mail)
	if text == "" {
		return failed
	}
	if b.picture != "" && o.results != "" {
		if err := os.WriteFile(filepath.Join(o.results, growthPicture), []byte(b.picture), 0o644); err != nil {
			return err
		}
	}
	return errors.Join(failed, o.publish("RESULTS.md", text))
}

// publish prints a report, and writes it where that was asked for.
func (o options) publish(name, text string) error {
	fmt.Print(text)
	if o.results == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(o.results, name), []byte(text), 0o644)
}

// bench is what the parts share.
type bench struct {
	options
	dir      string
	machine  string
	versions string // of the gateway and of Redis
	letter   *message
	sink     *sink
	site     *site
	peers    *peers
	rsa      []float64 // CPU ms of a bare rsa.Sign, from time to time
	signs    []float64 // the same of a signature as the gateway makes it
	loudest  float64   // see report
	failures []error   // of single runs
	picture  string    // of the part growth
}

// newBench builds and starts what is needed for any part. What is started later ends with it.
func newBench(ctx context.Context, o options) (b *bench, err error) {
	b = &bench{options: o, machine: thisMachine()}
	if b.letter, err = newMessage(newsletter(newsletterSize)); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "consentgate-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.sink, err = startSink(); err != nil {
		return nil, err
	}
	if b.site, err = newSite(ctx, b.dir, o.binary, b.letter.domain, b.sink.addr); err != nil {
		return nil, err
	}
	if b.versions, err = b.site.versions(ctx); err != nil {
		return nil, err
	}
	b.peers = &peers{wanted: o.peers, dir: b.dir, site: b.site, message: b.letter, sink: b.sink, running: map[string]*peer{}, missing: map[string]string{}}
	return b, b.site.fill(ctx, o.people, b.letter.scope)
}

func (b *bench) close() (err error) {
	if b.peers != nil {
		err = b.peers.stop()
	}
	if b.site != nil {
		err = errors.Join(err, b.site.close())
	}
	if b.sink != nil {
		b.sink.close()
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

// mail runs those of the parts that make the report of messages, and returns it; "" where there is
// none of them. What fails, or has no time left, is an error and stands in the report as one; the rest
// is run.
func (b *bench) mail(ctx context.Context, names []string) (_ string, failed error) {
	parts := map[string]func(context.Context) (*section, error){
		"newsletter": b.newsletterPart, "recipients": b.recipientsPart, "spool": b.spoolPart,
		"text": b.textPart, "latency": b.latencyPart, "growth": b.growthPart,
	}
	var sections []*section
	for _, name := range mailParts {
		if !slices.Contains(names, name) {
			continue
		}
		fmt.Fprintln(os.Stderr, name)
		begin := time.Now()
		s, err := parts[name](ctx)
		if errors.Is(ctx.Err(), context.Canceled) { // by whoever does not want to wait for it
			return "", errors.Join(err, context.Cause(ctx))
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
			s = &section{title: name, text: "**This part failed, so there are no figures:** " + strings.Join(strings.Fields(err.Error()), " ")}
			fmt.Fprintf(os.Stderr, "%s failed: %v\n", name, err)
		}
		s.took = time.Since(begin)
		sections = append(sections, s)
	}
	if sections == nil {
		return "", nil
	}
	r := &report{machine: b.machine, disk: fileSystem(b.dir), versions: b.versions, peers: b.peers.versions(), missing: b.peers.missing,
		runs: b.runs, window: b.window, people: b.people, loudest: b.loudest, sections: sections}
	if b.rsa != nil {
		r.sign, r.own, r.by = median(b.rsa), median(b.signs), b.site.signedBy
	}
	return r.text(), errors.Join(append(b.failures, failed)...)
}
