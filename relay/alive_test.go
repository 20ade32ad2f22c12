package relay

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/relay/spool"
)

// queued is a listener whose connections a test hands over.
type queued struct {
	net.Listener
	conns chan net.Conn
}

func (*queued) Addr() net.Addr { return &net.TCPAddr{} }

func (q *queued) Accept() (net.Conn, error) {
	c, ok := <-q.conns
	if !ok {
		return nil, io.EOF
	}
	return c, nil
}

// A loop that waits for connections is well, however long; one that hangs with one is stuck once acceptWithin
// is over, and well again when it goes on.
func TestStuck(t *testing.T) {
	q := &queued{conns: make(chan net.Conn)}
	g := &gate{Listener: q, dialect: &dialect{}, pool: testPool(10)}
	taken := make(chan struct{})
	go func() {
		defer close(taken)
		for {
			if _, err := g.Accept(); err != nil {
				return
			}
			taken <- struct{}{}
		}
	}()
	later := time.Now().Add(time.Hour)
	q.conns <- remote{&net.TCPAddr{}}
	<-taken
	q.conns <- remote{&net.TCPAddr{}} // so it waited for this one
	<-taken
	q.conns <- remote{&net.TCPAddr{}}
	// Nobody takes what Accept has returned with now, so the loop does not go round.
	for g.busy.Load() == nil {
		runtime.Gosched()
	}
	if g.stuck(time.Now()) {
		t.Error("stuck at once")
	}
	if !g.stuck(later) {
		t.Error("an hour with one connection, and not stuck")
	}
	<-taken
	for g.busy.Load() != nil {
		runtime.Gosched()
	}
	if g.stuck(later) {
		t.Error("stuck while it waits")
	}
	close(q.conns)
	<-taken
}

// A server with a spool is alive until its accept loop hangs, or the spool's writer is no more.
func TestAlive(t *testing.T) {
	sp, err := spool.Open(filepath.Join(t.TempDir(), "spool"), spool.Options{SegmentSize: 1 << 20, ReserveSize: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{spool: sp, listeners: []*gate{{Listener: &queued{}}}}
	if err := s.Alive(t.Context()); err != nil {
		t.Error(err)
	}
	long := time.Now().Add(-time.Hour)
	s.listeners[0].busy.Store(&long)
	if err := s.Alive(t.Context()); err == nil || !strings.Contains(err.Error(), "takes no connections") {
		t.Errorf("the accept loop hangs: %v", err)
	}
	s.listeners[0].busy.Store(nil)
	if err := sp.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Alive(t.Context()); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("the writer has ended: %v", err)
	}
	s.spool = nil
	if err := s.Alive(t.Context()); err != nil {
		t.Errorf("stateless: %v", err)
	}
}
