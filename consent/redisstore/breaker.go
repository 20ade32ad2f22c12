package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent"
)

// probeEvery is how often a server that did not answer is asked whether it is back, and probeTime
// how long it has to say so.
const (
	probeEvery = 150 * time.Millisecond
	probeTime  = 300 * time.Millisecond
)

// breaker lets no call wait for a server that is known not to answer. It opens with the first call
// that finds no connection or no answer; from then on calls fail at once, and one probe at a time finds
// out when the server is back. Where it was but one slow command, that is with the first probe.
//
// It is a go-redis hook, one for each server, so that a Cluster's other nodes are not concerned.
type breaker struct {
	store  *Store
	client *redis.Client
	down   atomic.Pointer[error] // nil while calls go through
}

type probeKey struct{} // in the context of a probe, which goes through all the same

// guard gives every server behind a client its breaker.
func (s *Store) guard(client redis.UniversalClient) {
	switch c := client.(type) {
	case *redis.ClusterClient:
		c.OnNewNode(func(node *redis.Client) { node.AddHook(&breaker{store: s, client: node}) })
	case *redis.Client:
		c.AddHook(&breaker{store: s, client: c})
	}
}

// DialHook hands out a connection that is none where there is none. The pool counts what it cannot dial, and
// from as many refusals on as it has places, of all its life, it makes but one attempt a second: a server would
// be used again that much later than it is back.
func (b *breaker) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return refused{err}, nil
		}
		p := &patient{Conn: conn}
		if socket, ok := conn.(syscall.Conn); ok { // which the pool looks at
			return rawPatient{p, socket}, nil
		}
		return p, nil
	}
}

// refused is a connection that did not come about.
type refused struct{ err error }

func (r refused) Read([]byte) (int, error)         { return 0, r.err }
func (r refused) Write([]byte) (int, error)        { return 0, r.err }
func (r refused) Close() error                     { return nil }
func (r refused) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (r refused) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (r refused) SetDeadline(time.Time) error      { return nil }
func (r refused) SetReadDeadline(time.Time) error  { return nil }
func (r refused) SetWriteDeadline(time.Time) error { return nil }

// SyscallConn has the pool drop one that was dialled ahead, when it comes to hand it out.
func (r refused) SyscallConn() (syscall.RawConn, error) { return nil, r.err }

// patient is a connection from which an answer is taken that came in time, however late the processors come to read
// it, and a question sent, however late they come to write it (but under TLS, which a late write ends). When a thousand
// senders come at once that may be later than readTimeout, and nobody is to take the server for one that does not answer.
type patient struct {
	net.Conn
	readLate, wroteLate atomic.Bool // since the deadline was set
}

// lateTime is how much longer it may then take, once. What is there is read at once.
const lateTime = 10 * time.Millisecond

func (p *patient) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if late(n, err) && p.readLate.CompareAndSwap(false, true) && p.Conn.SetReadDeadline(time.Now().Add(lateTime)) == nil {
		return p.Conn.Read(b)
	}
	return n, err
}

func (p *patient) Write(b []byte) (int, error) {
	n, err := p.Conn.Write(b)
	if late(n, err) && p.wroteLate.CompareAndSwap(false, true) && p.Conn.SetWriteDeadline(time.Now().Add(lateTime)) == nil {
		return p.Conn.Write(b)
	}
	return n, err
}

func late(n int, err error) bool { return n == 0 && errors.Is(err, os.ErrDeadlineExceeded) }

func (p *patient) SetReadDeadline(t time.Time) error {
	p.readLate.Store(false)
	return p.Conn.SetReadDeadline(t)
}

func (p *patient) SetWriteDeadline(t time.Time) error {
	p.wroteLate.Store(false)
	return p.Conn.SetWriteDeadline(t)
}

func (p *patient) SetDeadline(t time.Time) error {
	return errors.Join(p.SetReadDeadline(t), p.SetWriteDeadline(t))
}

// rawPatient is one whose socket the pool can look at.
type rawPatient struct {
	*patient
	syscall.Conn
}

// ProcessHook guards single commands.
func (b *breaker) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if down := b.down.Load(); down != nil && ctx.Value(probeKey{}) == nil {
			cmd.SetErr(*down)
			return *down
		}
		err := next(ctx, cmd)
		b.note(ctx, err)
		return err
	}
}

// ProcessPipelineHook guards pipelines.
func (b *breaker) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if down := b.down.Load(); down != nil && ctx.Value(probeKey{}) == nil {
			for _, cmd := range cmds {
				cmd.SetErr(*down)
			}
			return *down
		}
		err := next(ctx, cmds)
		b.note(ctx, err)
		return err
	}
}

// note opens the breaker where err is the lack of an answer that no caller is to blame for.
func (b *breaker) note(ctx context.Context, err error) {
	if err == nil || isReply(err) || ctx.Err() != nil || errors.Is(err, redis.ErrClosed) || errors.Is(err, redis.ErrPoolTimeout) {
		return
	}
	down := fmt.Errorf("%w: %w: %w", consent.ErrUnreachable, consent.ErrUnasked, errors.New(err.Error())) // as text: go-redis would try a network error again
	if b.down.CompareAndSwap(nil, &down) {
		b.store.task(b.probe)
	}
}

// probe closes the breaker as soon as the server answers.
func (b *breaker) probe() {
	s := b.store
	for {
		ctx, cancel := context.WithTimeout(context.WithValue(s.life, probeKey{}, true), probeTime)
		err := b.client.Ping(ctx).Err()
		cancel()
		if err == nil || isReply(err) || errors.Is(err, redis.ErrClosed) {
			b.down.Store(nil)
			return
		}
		if c, ok := s.rdb.(*redis.ClusterClient); ok {
			c.ReloadState(s.life) // another may have taken its place
		}
		if s.pause(s.life, probeEvery) != nil {
			return
		}
	}
}
