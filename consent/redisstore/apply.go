package redisstore

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent"
)

const garbage = "GARBAGE"

// merge does what consent.Record.Merge does, inside Redis.
//
// KEYS[1] is the person's hash, ARGV[1] the scope, ARGV[2..4] the entries to set for mail, open
// and click, "" for those that the change does not name. It returns the record after the change
// and that of "*", "" for none. A record that it cannot read it does not touch.
var merge = redis.NewScript(`
local function entry(s, states)
	if s == '' then return '', '' end
	local state, time, notice = string.match(s, '^([' .. states .. '])([1-9]%d*)[iapomc]([ -~]*)$')
	if not state or #time > 12 or #notice > 64 then return nil end
	return state, notice
end
local kinds = {'su', 'gdn', 'gdn'}
local function read(field)
	local s = redis.call('HGET', KEYS[1], field)
	if not s then return '', '0', {'', '', ''} end
	local version, m, o, c = string.match(s, '^([1-9]%d*)\t([^\t]*)\t([^\t]*)\t([^\t]*)$')
	if not version then return nil end
	local entries = {m, o, c}
	for i = 1, 3 do
		if not entry(entries[i], kinds[i]) then return nil end
	end
	return s, version, entries
end
local text, version, entries = read(ARGV[1])
local any = read('*')
if not text or not any then
	return redis.error_reply('GARBAGE in the record of this person')
end
local changed = false
for i = 1, 3 do
	local new = ARGV[i + 1]
	if new ~= '' then
		local state, notice = entry(new, kinds[i])
		local oldState, oldNotice = entry(entries[i], kinds[i])
		if state ~= oldState or notice ~= oldNotice then
			entries[i] = new
			changed = true
		end
	end
end
if changed then
	text = string.format('%.0f', version + 1) .. '\t' .. table.concat(entries, '\t')
	redis.call('HSET', KEYS[1], ARGV[1], text)
	if ARGV[1] == '*' then any = text end
end
return {text, any}
`)

// Apply checks whose store this is and then makes the changes, each in one step of Redis, up to
// maxPipeline of them in one round trip. Where the connection breaks in the middle, the results
// say which changes are known to be made; those that are not may have been, and applying them
// again does no harm.
func (s *Store) Apply(ctx context.Context, changes []consent.Change) ([]consent.Result, error) {
	results := make([]consent.Result, len(changes))
	if err := s.Ping(ctx); err != nil {
		return fail(results, err)
	}
	var todo []call
	k := s.keys()
	for i, c := range changes {
		if err := c.Check(); err != nil {
			results[i].Err = err
			continue
		}
		todo = append(todo, call{
			index: i,
			scope: c.Scope,
			key:   k.person(c.Who),
			args: []any{string(c.Scope), consent.EntryText(c.Entry(c.Mail)),
				consent.EntryText(c.Entry(c.Open)), consent.EntryText(c.Entry(c.Click))},
		})
	}
	for len(todo) > 0 {
		n := min(len(todo), maxPipeline)
		s.run(ctx, todo[:n], results, false)
		todo = todo[n:]
	}
	return results, nil
}

// call is one run of the script.
type call struct {
	index int // in the results
	scope consent.Scope
	key   string
	args  []any
}

// run makes one pipeline of calls, with the script's text in the first where Redis does not hold
// it yet. From the first call that Redis did not know the script for, all are made (again), so
// that two changes to one person keep their order.
func (s *Store) run(ctx context.Context, calls []call, results []consent.Result, withText bool) {
	pipe := s.rdb.Pipeline()
	replies := make([]*redis.Cmd, len(calls))
	for i, c := range calls {
		if withText && i == 0 {
			replies[i] = merge.Eval(ctx, pipe, []string{c.key}, c.args...)
		} else {
			replies[i] = merge.EvalSha(ctx, pipe, []string{c.key}, c.args...)
		}
	}
	pipe.Exec(ctx) // each reply has its own error
	for i, c := range calls {
		values, err := replies[i].Slice()
		switch {
		case !withText && redis.HasErrorPrefix(err, "NOSCRIPT"):
			s.run(ctx, calls[i:], results, true)
			return
		case err != nil:
			results[c.index] = consent.Result{Err: wrap(err)}
		case len(values) != 2:
			results[c.index] = consent.Result{Err: wrap(errors.New("the merge script answered nonsense"))}
		default:
			results[c.index] = result(c.scope, values[0], values[1])
		}
	}
}
