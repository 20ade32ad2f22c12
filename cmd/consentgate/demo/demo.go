// Package demo shows the whole gateway at work on one machine, with nothing but this program:
// the embedded store with a fresh key in a temporary folder, the real relay, an embedded
// smarthost that keeps what it gets, and the real unsubscribe page. It sends one newsletter to
// five people with different consents, reads back each copy that reached the smarthost,
// compares it with the original, and says what was kept, removed, undone and inserted.
//
// The comparison is a second opinion: it reads the copies with other code than package rewrite
// does and never asks the rewriter what it did. A copy that is not what its consent calls for
// is an error of Run.
//
// All traffic stays on the loopback interface. The package is not for anything that must last:
// all is lost when Run returns.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options says how Run shows itself.
type Options struct {
	Once   bool      // return after the first round, without the page
	Out    io.Writer // the table, and the page's address
	Listen string    // host:port of the page and the unsubscribe links; "" = "127.0.0.1:0"
}

// ErrDeviation is wrapped by Run's error where a copy was not what its consent calls for. Which
// one and why has then been written to Options.Out.
var ErrDeviation = errors.New("a copy is not what its consent calls for")

// stopTime is how long requests under way may take when the demo ends.
const stopTime = 300 * time.Millisecond

// Run sends the first round and writes its table to opts.Out. With Once it returns then, else it
// serves the page until ctx is done. The error is nil if every copy of every round was what its
// consent called for.
func Run(ctx context.Context, opts Options) (err error) {
	if opts.Listen == "" {
		opts.Listen = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", opts.Listen)
	if err != nil {
		return fmt.Errorf("demo: the page: %w", err)
	}
	h, err := open("http://"+listener.Addr().String(), time.Now)
	if err != nil {
		listener.Close()
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { err = errors.Join(err, h.close()) }()
	s := &show{house: h, out: opts.Out}

	server := &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      60 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	defer func() {
		limit, cancel := context.WithTimeout(context.Background(), stopTime)
		defer cancel()
		if server.Shutdown(limit) != nil {
			server.Close()
		}
		if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, fmt.Errorf("demo: the page: %w", e))
		}
	}()

	if _, err := s.next(ctx); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if opts.Once {
		return s.verdict()
	}
	if _, err := fmt.Fprintf(opts.Out, "\nEach copy beside the original, unsubscribe pages, the next round:\n\n    %s/\n\nCtrl-C ends it.\n", h.base); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	select {
	case <-ctx.Done():
		return s.verdict()
	case e := <-ended:
		ended <- e
		return nil // the deferred function says why
	}
}

// show is the rounds so far, and the page about the last one.
type show struct {
	house *house
	out   io.Writer

	// choosing is held for writing while a round is sent, and for reading while somebody's
	// choice on an unsubscribe page is written: a round has one truth.
	choosing sync.RWMutex

	mu       sync.Mutex
	last     *round
	deviated bool // in any round
}

// next sends a round with the consents that hold now and writes its table.
func (s *show) next(ctx context.Context) (*round, error) {
	s.choosing.Lock()
	defer s.choosing.Unlock()
	s.mu.Lock()
	number := 1
	if s.last != nil {
		number = s.last.number + 1
	}
	s.mu.Unlock()
	r, err := s.house.round(ctx, number)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.last = r
	s.deviated = s.deviated || len(r.deviations()) > 0
	s.mu.Unlock()
	return r, r.writeTable(s.out)
}

func (s *show) current() *round {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

func (s *show) verdict() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deviated {
		return fmt.Errorf("demo: %w", ErrDeviation)
	}
	return nil
}
