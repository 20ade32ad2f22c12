package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/spool"
)

// told is a store of whose changes the webhook is told.
type told struct {
	consent.Store
	o *Outbox
}

// Told returns the store of Config, as it is to be used by all that changes it but imports: for each Apply and
// Rename there is a job before the change is made. A change that changes nothing makes none.
//
// Where the job cannot be kept, since the disk is full or too many wait, the change is made all the same, and the
// log says that the webhook is not told: what people decide counts more.
func (o *Outbox) Told() consent.Store {
	if o.cfg.WebhookURL == "" || !o.cfg.TellChanges {
		return o.cfg.Store
	}
	return &told{o.cfg.Store, o}
}

func (s *told) Apply(ctx context.Context, changes []consent.Change) ([]consent.Result, error) {
	if rs, err, ok := s.applyIdle(ctx, changes); ok {
		return rs, err
	}
	var people []consent.Address
	for _, c := range changes {
		if c.Check() == nil {
			people = append(people, c.Who)
		}
	}
	begun, err := s.o.begin(ctx, people)
	if err != nil {
		rs := make([]consent.Result, len(changes))
		for i := range rs {
			rs[i].Err = err
		}
		return rs, err
	}
	rs, err := s.Store.Apply(ctx, changes)
	sure := err == nil
	for _, r := range rs {
		sure = sure && r.Err == nil
	}
	s.o.ended(begun, sure)
	return rs, err
}

func (s *told) Rename(ctx context.Context, old, new consent.Address, source consent.Source, at time.Time) error {
	begun, err := s.o.begin(ctx, []consent.Address{old, new})
	if err != nil {
		return err
	}
	err = s.Store.Rename(ctx, old, new, source, at)
	s.o.ended(begun, err == nil)
	return err
}

// applyIdle applies changes that change nothing as far as is known, on condition that this is so: a link that is
// clicked again and again writes nothing. ok is false where something is to be changed after all.
func (s *told) applyIdle(ctx context.Context, changes []consent.Change) (rs []consent.Result, err error, ok bool) {
	if len(changes) == 0 || len(changes) > maxIdle {
		return nil, nil, false
	}
	same := make([]consent.Change, len(changes))
	for i, c := range changes {
		if c.Check() != nil {
			return nil, nil, false
		}
		now, err := s.Store.Lookup(ctx, c.Scope, []consent.Address{c.Who})
		if err != nil || now[0].Err != nil {
			return nil, nil, false
		}
		if _, changes := now[0].Scope.Merge(c); changes {
			return nil, nil, false
		}
		if c.IfVersion == 0 {
			c.IfVersion = now[0].Scope.Version
			if c.IfVersion == 0 {
				c.IfVersion = consent.NeverSeen
			}
		}
		same[i] = c
	}
	rs, err = s.Store.Apply(ctx, same)
	for i, r := range rs {
		if errors.Is(r.Err, consent.ErrConflict) && changes[i].IfVersion == 0 {
			return nil, nil, false // somebody was faster
		}
	}
	return rs, err, true
}

// maxIdle is up to how many changes it is first looked whether they change anything; an import has more.
const maxIdle = 8

// begin adds a job for each person, held until ended. The error is the store's, which does not answer; then
// nothing may be changed, since it would not be known from where on to tell.
func (o *Outbox) begin(ctx context.Context, people []consent.Address) ([]*item, error) {
	var jobs []job
	seen := map[consent.Address]bool{}
	for _, who := range people {
		if seen[who] {
			continue
		}
		seen[who] = true
		after := uint64(0)
		for e, err := range o.cfg.Store.History(ctx, who) {
			if err != nil {
				return nil, err
			}
			after = max(after, e.Number)
		}
		jobs = append(jobs, job{Job: spool.Job{Queue: changeQueue, Line: o.cfg.Store.Key(who).String()}, payload: change{who.String(), after}, id: below(consent.Request(ctx))})
	}
	if len(jobs) == 0 {
		return nil, nil
	}
	items, err := o.add(true, jobs...)
	if err != nil {
		o.lost("change of consent", len(jobs), err)
	}
	return items, nil
}

// unsureTime is how long a change may still be made of which the store did not say that it was.
const unsureTime = 30 * time.Second

// ended lets the jobs be done.
func (o *Outbox) ended(items []*item, sure bool) {
	from := o.cfg.Now()
	if !sure {
		from = from.Add(unsureTime)
	}
	o.release(items, from)
}
