package redisstore

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent"
)

const (
	// maxLookups is how many pipelines with lookups are on their way at once. A lookup that comes meanwhile waits for
	// the next of them, with all others that do. So a thousand senders at once need no more connections than are open
	// ahead: opening one takes longer than dialTimeout when the processors are that busy, and would be taken for a
	// server that does not answer. And each connection waits for its turn at a processor once for many lookups.
	maxLookups = readyConns / 2

	// maxShared bounds the people in a pipeline that several lookups share.
	maxShared = 1000
)

// lookups are those on their way, and those that wait.
type lookups struct {
	mu       sync.Mutex
	underWay int // pipelines, up to maxLookups
	waiting  []*lookup
}

// lookup is one call of Lookup.
type lookup struct {
	scope   consent.Scope
	people  []consent.Address
	replies []redis.StringSliceCmd // one for each of people
	marked  error                  // what was said of the marker
	unread  bool                   // it could not be read

	// Of one that waits:
	ctx   context.Context
	asked chan struct{} // closed when the replies are there
}

// errUnasked is what holds of the marker before it was asked for.
var errUnasked = fmt.Errorf("%w: nothing was asked", consent.ErrUnreachable)

// Lookup asks for everybody in one pipeline. It may be one that other calls share, which begins after this one; then it
// ends when all nodes of a cluster that the others need have answered, too.
func (s *Store) Lookup(ctx context.Context, scope consent.Scope, people []consent.Address) ([]consent.Result, error) {
	l := &lookup{scope: scope, people: people, marked: errUnasked}
	if s.lookups.begin(ctx, l) {
		s.askNow(ctx, l)
		return s.answer(l)
	}
	select {
	case <-l.asked:
	case <-ctx.Done():
		select {
		case <-l.asked: // however late the processors come to look
		default:
			return fail(make([]consent.Result, len(people)), wrap(ctx.Err()))
		}
	}
	return s.answer(l)
}

// askNow asks for l, and has those asked for that came meanwhile.
func (s *Store) askNow(ctx context.Context, l *lookup) {
	defer func() {
		next := s.lookups.next()
		if next != nil && !s.task(func() { s.askForWaiting(next) }) {
			s.askForWaiting(next) // the store is closed, and it fails at once
		}
	}()
	s.askFor(ctx, l)
}

// begin reports whether l may be asked for now; else it waits.
func (ls *lookups) begin(ctx context.Context, l *lookup) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.underWay < maxLookups {
		ls.underWay++
		return true
	}
	l.ctx, l.asked = ctx, make(chan struct{})
	ls.waiting = append(ls.waiting, l)
	return false
}

// next ends a pipeline, and returns those that the next one is for; nil where none waits.
func (ls *lookups) next() []*lookup {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	n, people := 0, 0
	for n < len(ls.waiting) && (n == 0 || people+len(ls.waiting[n].people) <= maxShared) {
		people += len(ls.waiting[n].people)
		n++
	}
	next := ls.waiting[:n:n]
	if ls.waiting = ls.waiting[n:]; n == 0 {
		ls.waiting = nil
		ls.underWay--
		return nil
	}
	return next
}

// askForWaiting asks for those that wait until none does.
func (s *Store) askForWaiting(next []*lookup) {
	for ; next != nil; next = s.lookups.next() {
		s.askTogether(slices.DeleteFunc(next, func(l *lookup) bool { return l.ctx.Err() != nil })) // who asked has left
	}
}

// askTogether asks for several. It is bounded by what the client waits for at most, and by nobody's context: who asked
// may leave before. A bug that it meets costs these, and nothing else.
func (s *Store) askTogether(all []*lookup) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a bug in the lookup of consent", "panic", p, "stack", string(debug.Stack()))
		}
		for _, l := range all {
			close(l.asked)
		}
	}()
	if len(all) > 0 {
		s.askFor(context.Background(), all...)
	}
}

// askFor gets the replies for all in one pipeline.
func (s *Store) askFor(ctx context.Context, all ...*lookup) {
	pipe := s.rdb.Pipeline()
	mark := pipe.Get(ctx, marker)
	replies := s.ask(ctx, pipe, all)
	pipe.Exec(ctx) // each reply has its own error
	marked := s.judge(ctx, mark)
	unread := mark.Err() != nil && !errors.Is(mark.Err(), redis.Nil)
	for _, l := range all {
		n := len(l.people)
		l.replies, l.marked, l.unread = replies[:n:n], marked, unread
		replies = replies[n:]
	}
}

// answer reads the replies for l.
func (s *Store) answer(l *lookup) ([]consent.Result, error) {
	results := make([]consent.Result, len(l.people))
	if err := l.marked; err != nil {
		// In a cluster the marker's node may be down and others not; whoever could be read, was. A marker that was read holds:
		// this may be data that was moved elsewhere.
		answered := false
		for i := range l.replies {
			answered = answered || !l.people[i].IsZero() && l.replies[i].Err() == nil
		}
		if !answered || !l.unread || !s.cluster || !s.known.yes() || s.danger.Load() != nil {
			return fail(results, err)
		}
	}
	for i := range l.replies {
		if l.people[i].IsZero() {
			results[i].Err = consent.ErrAddress
			continue
		}
		values, err := l.replies[i].Result()
		if err != nil {
			results[i].Err = wrap(err)
			continue
		}
		results[i].Parse(l.scope, values[0], values[1])
	}
	return results, nil
}

// ask puts an HMGET for each of the people of all into the pipeline, none for the zero Address. Pipeline.HMGet
// allocates nine times a person, which shows in a message to many; here all people's keys, arguments and
// commands are one allocation each.
func (s *Store) ask(ctx context.Context, pipe redis.Pipeliner, all []*lookup) []redis.StringSliceCmd {
	n := 0
	for _, l := range all {
		n += len(l.people)
	}
	var text strings.Builder
	text.Grow(hashKeySize * n)
	for _, l := range all {
		for _, who := range l.people {
			text.Write(appendHashKey(make([]byte, 0, hashKeySize), s.Key(who)))
		}
	}
	keys := make([]string, n)
	args := make([]any, 4*n)
	cmds := make([]redis.StringSliceCmd, n)
	var get, anyScope any = "hmget", string(consent.AnyScope)
	i := 0
	for _, l := range all {
		var own any = string(l.scope)
		for _, who := range l.people {
			if !who.IsZero() {
				keys[i] = text.String()[hashKeySize*i : hashKeySize*(i+1)]
				args := args[4*i : 4*i+4 : 4*i+4]
				args[0], args[1], args[2], args[3] = get, &keys[i], own, anyScope
				cmds[i] = *redis.NewStringSliceCmd(ctx, args...)
				pipe.Process(ctx, &cmds[i])
			}
			i++
		}
	}
	return cmds
}

// fail puts err into every result that has none.
func fail(results []consent.Result, err error) ([]consent.Result, error) {
	for i := range results {
		if results[i].Err == nil {
			results[i] = consent.Result{Err: err}
		}
	}
	return results, err
}
