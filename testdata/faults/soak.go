package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/consentgate/consentgate/consent/token"
)

// The soak: one gateway, for long, at half of what it can, with a fault in turn. Nothing may be lost, and it may not grow.

const (
	soakConnections = 8
	capacityTime    = 8 * time.Second // at full load, to know what half is
	soakEvery       = time.Minute     // from one fault to the next, in a long run, and from one row to the next
	sampleEvery     = 5 * time.Second
	burstSize       = 200
	bigMessage      = 20 << 20
)

// soak is the run as it goes.
type soak struct {
	*station
	redis *deployment
	hop   *proxy
	crowd *crowd
	links *token.Sealer
	every time.Duration
	n     atomic.Int64 // of the messages that are part of a fault
}

// soakFault is one of those that come in turn.
type soakFault struct {
	name string
	do   func(ctx context.Context, s *soak) error
}

// A fault lasts at most a third of the time until the next.
func (s *soak) lasting(d time.Duration) time.Duration { return min(d, s.every/3) }

var soakFaults = []soakFault{
	{"smarthost answers 451", func(ctx context.Context, s *soak) error {
		s.sink.busy.Store(true)
		sleep(ctx, s.lasting(10*time.Second))
		s.sink.busy.Store(false)
		return nil
	}},
	{"smarthost hangs", func(ctx context.Context, s *soak) error {
		s.hop.swallow()
		sleep(ctx, s.lasting(10*time.Second))
		s.hop.release()
		return nil
	}},
	{"smarthost gone", func(ctx context.Context, s *soak) error {
		s.hop.away()
		sleep(ctx, s.lasting(20*time.Second))
		return s.hop.back()
	}},
	{"Redis restarted", func(ctx context.Context, s *soak) error {
		server := s.redis.servers[0]
		server.signal(syscall.SIGTERM)
		<-server.done
		if err := server.start(); err != nil {
			return err
		}
		_, err := server.answers(ctx)
		return err
	}},
	{"Redis stopped for 2 s (SIGSTOP)", func(ctx context.Context, s *soak) error {
		server := s.redis.servers[0]
		err := server.signal(syscall.SIGSTOP)
		sleep(ctx, 2*time.Second)
		server.signal(syscall.SIGCONT)
		return err
	}},
	{"SIGHUP", func(_ context.Context, s *soak) error { return s.cmd.Process.Signal(syscall.SIGHUP) }},
	{"200 connections at once", burst},
	{"a message of 20 MB", func(_ context.Context, s *soak) error {
		mark := fmt.Sprintf("%s-big-%d", s.load.name, s.n.Add(1))
		return s.one(letter{to: []string{denies + "0@example.com", consents + "0@example.com", ordinary + "0@example.com"}, text: attached(mark, bigMessage)}, mark)
	}},
}

// burst sends a message on each of many connections at the same time.
func burst(_ context.Context, s *soak) error {
	var wg sync.WaitGroup
	errs := make([]error, burstSize)
	for i := range errs {
		wg.Go(func() {
			n := s.n.Add(1)
			mark := fmt.Sprintf("%s-burst-%d", s.load.name, n)
			errs[i] = s.one(s.crowd.write(false)(mark, rand.New(rand.NewPCG(uint64(n), 9))), mark)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// attached is a message like the others with an attachment of about that many bytes.
func attached(mark string, size int) string {
	line := strings.Repeat("A", 76) + "\r\n"
	text := message(mark, "", 1500)
	_, html, _ := strings.Cut(text, "\r\n\r\n")
	return "From: News <news@example.org>\r\nSubject: mark " + mark + "\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=part\r\n\r\n" +
		"--part\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html +
		"--part\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=big.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		strings.Repeat(line, size/len(line)) + "--part--\r\n"
}

// one sends a message on a connection of its own.
func (s *soak) one(m letter, mark string) error {
	c, err := dial(s.load.addr, "")
	if err != nil {
		return err
	}
	defer c.Close()
	return s.load.sendLetter(c, mark, m)
}

// soakSample is what the gateway was at a moment.
type soakSample struct {
	at                     time.Duration // since the load began
	heap                   float64       // bytes at which the next collection is due: twice what lived at the last
	rss, goroutines, files float64
	messages, age, bytes   float64 // the spool's, as it says
	onDisk                 int64   // that its folder takes

	accepted, delivered, reported int // copies so far
	overdue                       int // of the accepted: over a minute ago, and neither delivered nor reported
	faults                        []string
}

// soakTally is what came of it.
type soakTally struct {
	*redisTally
	seconds         int
	capacity, pace  float64        // messages a second: what it can, and what it was sent
	struck          map[string]int // how often which fault was made
	needless        int
	clicked         int
	views, badViews int
	rows            []soakSample // one a minute
	idle, end       soakSample   // before the load, and after it
	second, last    soakSample   // medians over the second and the last turn of all faults
}

// Slack that the end may have over the beginning.
const (
	rssFactor, rssMore     = 1.25, 16 << 20 // the medians of the last turn over those of the second
	countFactor, countMore = 1.1, 10        // goroutines and files
	spoolMore              = 256 << 20      // four segments of the spool's log: more than that is cleared out
)

// grown says what is larger at the end than it may be.
func (t *soakTally) grown() (what []string) {
	for _, c := range append(t.turnLimits(), t.idleLimits()...) {
		if c.now > c.limit {
			what = append(what, fmt.Sprintf("%s: %.0f, and %.0f before, which allows %.0f", c.name, c.now, c.before, c.limit))
		}
	}
	return what
}

// limit is what something may be at the end.
type limit struct {
	name               string
	now, before, limit float64
}

func limited(name string, now, before, factor, more float64) limit {
	return limit{name, now, before, before*factor + more}
}

// turnLimits compare the last turn of all faults with the second: in the first the spool's log and what is remembered
// of it grow to what they are from then on.
func (t *soakTally) turnLimits() []limit {
	return []limit{
		limited("memory (RSS, bytes), median of a turn", t.last.rss, t.second.rss, rssFactor, rssMore),
		limited("heap at which the next collection is due (bytes), median of a turn", t.last.heap, t.second.heap, rssFactor, rssMore),
		limited("goroutines, median of a turn", t.last.goroutines, t.second.goroutines, rssFactor, countMore),
		limited("open files, median of a turn", t.last.files, t.second.files, rssFactor, countMore),
	}
}

// idleLimits compare what is left when all is done with what was before the load.
func (t *soakTally) idleLimits() []limit {
	return []limit{
		limited("goroutines, idle", t.end.goroutines, t.idle.goroutines, countFactor, countMore),
		limited("open files, idle", t.end.files, t.idle.files, countFactor, countMore),
		limited("messages in the spool, idle", t.end.messages, t.idle.messages, 1, 0),
		limited("bytes of the spool's folder on disk, idle", float64(t.end.onDisk), float64(t.idle.onDisk), 1, spoolMore),
	}
}

func (t *soakTally) bad() bool {
	return t.lost+t.tracked+t.mailed+t.missed+t.held+t.needless+t.badViews > 0 || t.waiting != "" || len(t.grown()) > 0
}

// sample asks the gateway for what it takes.
func (s *soak) sample(ctx context.Context) (soakSample, error) {
	r, err := http.NewRequestWithContext(ctx, "GET", s.api+"/metrics", nil)
	if err != nil {
		return soakSample{}, err
	}
	answer, err := s.crowd.http.Do(r)
	if err != nil {
		return soakSample{}, err
	}
	defer answer.Body.Close()
	m, err := readMetrics(answer.Body)
	if err != nil {
		return soakSample{}, err
	}
	v := soakSample{}
	for name, into := range map[string]*float64{
		"go_memstats_next_gc_bytes": &v.heap, "process_resident_memory_bytes": &v.rss, "go_goroutines": &v.goroutines, "process_open_fds": &v.files,
		"consentgate_spool_messages": &v.messages, "consentgate_spool_oldest_age_seconds": &v.age, "consentgate_spool_bytes": &v.bytes,
	} {
		var ok bool
		if *into, ok = m[name]; !ok {
			return v, fmt.Errorf("/metrics has no %s", name)
		}
	}
	v.onDisk, err = diskUse(filepath.Join(s.dir, "spool"))
	return v, err
}

// readMetrics reads the values without labels of Prometheus' text format.
func readMetrics(r io.Reader) (map[string]float64, error) {
	m := map[string]float64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || strings.HasPrefix(name, "#") || strings.Contains(name, "{") {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("/metrics: %s: %w", name, err)
		}
		m[name] = v
	}
	return m, lines.Err()
}

// diskUse is what a folder's files take on disk. What goes away meanwhile counts nothing.
func diskUse(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				if st, ok := info.Sys().(*syscall.Stat_t); ok {
					n += st.Blocks * 512
				}
			}
		}
		if os.IsNotExist(err) {
			return nil
		}
		return err
	})
	return n, err
}
