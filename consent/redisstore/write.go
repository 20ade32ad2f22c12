package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent"
)

// update writes what was worked out from a person as read, only if nothing changed since.
//
// KEYS: the person's hash, the list of events.
// ARGV: the channel and what to say there; how many fields the hash had, the list's length or
// "" where it does not matter, "replace", "append" or "again", how many fields to set, to remove; then each field
// that was there with its value, each to set with its value, each to remove, and the events. With
// "again" there is nothing to change, and something is written all the same, for WAIT to wait for.
//
// It returns 1, or where somebody was faster the fields and the last two events as they are now.
var update = redis.NewScript(`
local had, length, sets, dels = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[6]), tonumber(ARGV[7])
local at = 8
local same = redis.call('HLEN', KEYS[1]) == had and (length == '' or redis.call('LLEN', KEYS[2]) == tonumber(length))
for i = 1, had do
	same = same and redis.call('HGET', KEYS[1], ARGV[at]) == ARGV[at + 1]
	at = at + 2
end
if not same then
	return {redis.call('HGETALL', KEYS[1]), redis.call('LRANGE', KEYS[2], -2, -1)}
end
if ARGV[5] == 'again' then
	if had > 0 then
		redis.call('HSET', KEYS[1], ARGV[8], ARGV[9])
	else
		redis.call('HSET', KEYS[1], '#', '')
		redis.call('HDEL', KEYS[1], '#')
	end
	return 1
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
local set, del = at, at + 2 * sets
at = del + dels
if ARGV[5] == 'replace' then redis.call('DEL', KEYS[2]) end
for i = at, #ARGV do redis.call('RPUSH', KEYS[2], ARGV[i]) end
for i = set, del - 1, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
for i = del, del + dels - 1 do redis.call('HDEL', KEYS[1], ARGV[i]) end
return 1
`)

// maxAttempts bounds how often a change is worked out again because somebody else was faster.
// Of all who write at a time one gets through, so only a crowd of gateways that never ends
// uses them up.
const maxAttempts = 400

// job is one person to change.
type job struct {
	key   consent.Key
	whole bool // work needs all events, not the last two alone
	sure  bool // where there is nothing to write since it was made before, replicas are waited for all the same
	work  func(*consent.Held) (consent.Update, error)

	held   *consent.Held // as last read; as written, where that was done
	update consent.Update
	err    error
}

// Apply checks whose store this is and makes the changes, those to one person in their order. Where
// the connection breaks in the middle, the results say which changes are known to be made; those
// that are not may have been, and applying them again does no harm.
func (s *Store) Apply(ctx context.Context, changes []consent.Change) ([]consent.Result, error) {
	results := make([]consent.Result, len(changes))
	if len(changes) == 0 {
		return results, s.Ping(ctx)
	}
	type theirs struct {
		changes []consent.Change
		indexes []int
	}
	people := map[consent.Key]*theirs{}
	var jobs []*job
	for i, c := range changes {
		if results[i].Err = c.Check(); results[i].Err != nil {
			continue
		}
		k := s.Key(c.Who)
		p := people[k]
		if p == nil {
			p = new(theirs)
			people[k] = p
			jobs = append(jobs, &job{key: k, sure: true, work: func(h *consent.Held) (consent.Update, error) {
				made, u := s.ledger.Apply(h, p.changes)
				for n, i := range p.indexes {
					results[i] = made[n]
				}
				return u, nil
			}})
		}
		p.changes, p.indexes = append(p.changes, c), append(p.indexes, i)
	}
	if len(jobs) == 0 {
		return results, nil
	}
	for todo := jobs; len(todo) > 0; {
		n := min(len(todo), maxPipeline)
		if err := s.run(ctx, todo[:n]); err != nil && len(todo) == len(jobs) {
			return fail(results, err)
		}
		todo = todo[n:]
	}
	for _, j := range jobs {
		if j.err != nil {
			for _, i := range people[j.key].indexes {
				results[i] = consent.Result{Err: j.err}
			}
		}
	}
	return results, nil
}

// run does up to maxPipeline jobs: it reads all people in one round trip and writes them in
// another, and again those at whom somebody else was faster. Each job has its own error then; the
// error returned, which all jobs have too, is of a store that could not be asked, and nothing was
// changed.
func (s *Store) run(ctx context.Context, jobs []*job) error {
	for attempt := 0; len(jobs) > 0; attempt++ {
		if attempt == maxAttempts {
			for _, j := range jobs {
				j.err = fmt.Errorf("%w: too many others write to one person at once", consent.ErrUnreachable)
			}
			return nil
		}
		if attempt > 1 { // so that a crowd disperses
			if err := s.pause(ctx, rand.N(time.Duration(min(attempt, 40))*time.Millisecond)); err != nil {
				for _, j := range jobs {
					j.err = err
				}
				return nil
			}
		}
		if err := s.readAll(ctx, jobs); err != nil && attempt == 0 {
			return err
		}
		var writes []*job
		for _, j := range jobs {
			if j.err == nil {
				j.update, j.err = j.work(j.held)
			}
			if j.err == nil && (!j.update.Empty() || j.sure && s.wait > 0) {
				writes = append(writes, j)
			}
		}
		jobs = s.write(ctx, writes)
	}
	return nil
}

// readAll reads the people of those jobs that have none, with the marker, whose error is
// returned and every such job's.
func (s *Store) readAll(ctx context.Context, jobs []*job) error {
	type reply struct {
		job    *job
		fields *redis.MapStringStringCmd
		events *redis.StringSliceCmd
	}
	var replies []reply
	pipe := s.rdb.Pipeline()
	mark := pipe.Get(ctx, marker)
	for _, j := range jobs {
		if j.held != nil {
			continue
		}
		// In this order: what is written between the two is noticed by the fields.
		r := reply{job: j, fields: pipe.HGetAll(ctx, hashKey(j.key))}
		if j.whole {
			r.events = pipe.LRange(ctx, listKey(j.key), 0, -1)
		} else {
			r.events = pipe.LRange(ctx, listKey(j.key), -2, -1)
		}
		replies = append(replies, r)
	}
	if len(replies) == 0 {
		return nil
	}
	pipe.Exec(ctx) // each reply has its own error
	err := s.judge(ctx, mark)
	for _, r := range replies {
		if r.job.err = err; err == nil {
			r.job.err = wrap(errors.Join(r.fields.Err(), r.events.Err()))
		}
		if r.job.err == nil {
			r.job.held = &consent.Held{Key: r.job.key, Fields: r.fields.Val(), Events: r.events.Val()}
		}
	}
	return err
}

// write runs the script for each job and returns those at whom somebody else was faster, with what
// is there now, or nothing where that takes another reading.
func (s *Store) write(ctx context.Context, jobs []*job) (again []*job) {
	if len(jobs) == 0 {
		return nil
	}
	byNode := map[pipeliner][]*job{}
	for _, j := range jobs {
		node, err := s.node(ctx, hashKey(j.key))
		if err != nil {
			j.err = wrap(err)
			continue
		}
		byNode[node] = append(byNode[node], j)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for node, jobs := range byNode {
		wg.Go(func() {
			// One that waits for replicas should not have to wait twice.
			late := s.writeTo(ctx, node, jobs, s.wait > 0)
			mu.Lock()
			defer mu.Unlock()
			again = append(again, late...)
		})
	}
	wg.Wait()
	return again
}

type pipeliner interface{ Pipeline() redis.Pipeliner }

// node returns whom to send a change of that key to. WAIT waits for what its own connection wrote, so
// where replicas are waited for, a cluster's nodes are spoken to one by one.
func (s *Store) node(ctx context.Context, key string) (pipeliner, error) {
	if c, ok := s.writer.(*redis.ClusterClient); ok && s.wait > 0 {
		return c.MasterForKey(ctx, key)
	}
	return s.writer, nil
}

// writeTo makes one pipeline, with the script's text where Redis turns out not to hold it.
func (s *Store) writeTo(ctx context.Context, node pipeliner, jobs []*job, withText bool) (again []*job) {
	pipe := node.Pipeline()
	replies := make([]*redis.Cmd, len(jobs))
	for i, j := range jobs {
		keys, args := []string{hashKey(j.key), listKey(j.key)}, s.arguments(j)
		if withText {
			replies[i] = update.Eval(ctx, pipe, keys, args...)
		} else {
			replies[i] = update.EvalSha(ctx, pipe, keys, args...)
		}
	}
	var waited *redis.Cmd
	if s.wait > 0 {
		waited = pipe.Do(ctx, "wait", s.wait, waitTime.Milliseconds())
	}
	pipe.Exec(ctx) // each reply has its own error
	var unknown []*job
	for i, j := range jobs {
		value, err := replies[i].Result()
		switch {
		case redis.HasErrorPrefix(err, "NOSCRIPT") && !withText:
			unknown = append(unknown, j)
			continue
		case redis.HasErrorPrefix(err, "MOVED") && s.cluster: // only where the nodes are spoken to one by one
			s.writer.(*redis.ClusterClient).ReloadState(ctx)
			again = append(again, j)
			continue
		case err != nil:
			j.err = wrap(err)
			continue
		}
		if _, done := value.(int64); !done {
			if !j.now(value) {
				again = append(again, j)
				continue
			}
			// It was made by this very call, whose first answer was lost.
		} else {
			j.held.Update(j.update)
		}
		if waited != nil {
			if n, err := waited.Int(); err != nil {
				j.err = fmt.Errorf("%w: %w: %w", consent.ErrUnreachable, consent.ErrNotDurable, err)
			} else if n < s.wait {
				j.err = fmt.Errorf("%w: %w: %d of %d replicas have it", consent.ErrUnreachable, consent.ErrNotDurable, n, s.wait)
			}
		}
	}
	if len(unknown) > 0 {
		again = append(again, s.writeTo(ctx, node, unknown, true)...)
	}
	return again
}

// now takes what the script says is there now, and reports whether that is what j was to write.
func (j *job) now(value any) bool {
	j.held = nil
	reply, _ := value.([]any)
	if len(reply) != 2 || j.whole {
		return false
	}
	h := &consent.Held{Key: j.key, Fields: map[string]string{}}
	fields, _ := reply[0].([]any)
	for i := 0; i+1 < len(fields); i += 2 {
		name, _ := fields[i].(string)
		h.Fields[name], _ = fields[i+1].(string)
	}
	events, _ := reply[1].([]any)
	for _, e := range events {
		text, _ := e.(string)
		h.Events = append(h.Events, text)
	}
	j.held = h
	head := j.update.Fields[consent.HeadField]
	return head != "" && head == h.Fields[consent.HeadField]
}

// arguments returns the script's ARGV.
func (s *Store) arguments(j *job) []any {
	length, how := "", "append"
	if j.whole {
		length = fmt.Sprint(len(j.held.Events))
	}
	switch {
	case j.update.Replace:
		how = "replace"
	case j.update.Empty():
		how = "again"
	}
	var had, sets, dels []any
	for name, text := range j.held.Fields {
		had = append(had, name, text)
	}
	for name, text := range j.update.Fields {
		if text == "" {
			dels = append(dels, name)
		} else {
			sets = append(sets, name, text)
		}
	}
	args := []any{s.channel(), j.key.String(), len(had) / 2, length, how, len(sets) / 2, len(dels)}
	args = append(append(append(args, had...), sets...), dels...)
	for _, e := range j.update.Events {
		args = append(args, e)
	}
	return args
}
