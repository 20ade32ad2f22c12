package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"runtime"
	"time"

	"github.com/consentgate/consentgate/testdata/process"
)

// figures are those of one run.
type figures struct {
	rate           float64 // messages/s, until the sink had the last one
	accepted       float64 // messages/s, until the sender had the last answer
	cpu            float64 // ms a message, of the processes that are measured
	memory         float64 // MB at the end of the run
	p50, p99       float64 // ms from the last byte of a message to the answer
	whole50        float64 // ms from MAIL to that answer, median
	whole99        float64 // the same, 99th percentile
	depth, waiting float64 // messages and seconds, see backlog
	others         float64 // what programs that are no part of this used of the machine meanwhile, in %
}

// measure runs the load once, and waits until the sink has all of it.
func (l load) measure(ctx context.Context, s *sink, measured, helpers func() []int) (f figures, err error) {
	ours := func() time.Duration { return process.CPU(measured()) + process.CPU(helpers()) + process.OwnCPU() }
	before, beforeOurs, beforeAll := process.CPU(measured()), ours(), process.MachineCPU()
	counted := s.count(sequence.Load())
	got, err := l.run(ctx)
	if err != nil {
		return f, err
	}
	want := got.messages * int64(l.rcpts)
	err = process.Until(ctx, time.Minute, func() error {
		if n := counted.copies.Load(); n < want {
			return fmt.Errorf("%d copies were accepted, the sink has %d", want, n)
		}
		return nil
	})
	if err != nil {
		return f, err
	}
	if got.messages == 0 {
		return f, fmt.Errorf("no message in %s", l.window)
	}
	used, usedOurs, usedAll := process.CPU(measured())-before, ours()-beforeOurs, process.MachineCPU()-beforeAll
	counted.mu.Lock()
	defer counted.mu.Unlock()
	if err := judge(got.accepted, counted.arrived); err != nil {
		return f, err
	}
	end := got.end // of the last to arrive; with one that answers behind that, of the last answer
	for _, e := range counted.arrived {
		if e.at.After(end) {
			end = e.at
		}
	}
	depth, age := backlog(got.accepted, counted.arrived)
	f.depth, f.waiting = float64(depth), age.Seconds()
	n := float64(got.messages)
	f.rate = n / end.Sub(got.start).Seconds()
	f.accepted = n / got.end.Sub(got.start).Seconds()
	f.cpu = ms(used) / n
	f.p50, f.p99 = ms(at(got.waits, .5)), ms(at(got.waits, .99))
	f.whole50, f.whole99 = ms(at(got.transactions, .5)), ms(at(got.transactions, .99))
	f.others = 100 * max(0, usedAll-usedOurs).Seconds() / (time.Since(got.start).Seconds() * float64(runtime.NumCPU()))
	if pids := measured(); len(pids) == 1 {
		f.memory = process.Memory(pids[0], "VmRSS")
	} else {
		f.memory = process.PSS(pids)
	}
	return f, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// signAlone is what a signature costs by itself: CPU ms of one over a SHA-256 hash, on one core, while nothing else of
// this runs.
func signAlone(key crypto.Signer, long time.Duration) float64 {
	hash := sha256.Sum256([]byte("what is signed does not matter"))
	n, before, begin := 0, process.OwnCPU(), time.Now()
	for ; n == 0 || time.Since(begin) < long; n++ {
		if _, err := key.Sign(rand.Reader, hash[:], crypto.SHA256); err != nil {
			panic(err) // only for a key that is too short
		}
	}
	return ms(process.OwnCPU()-before) / float64(n)
}
