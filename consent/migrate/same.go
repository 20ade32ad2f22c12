package migrate

import (
	"context"
	"errors"
	"fmt"

	"github.com/consentgate/consentgate/consent"
)

// maxAttempts bounds how often somebody is joined anew because others change the person all the time.
const maxAttempts = 100

// batch is how many people are read and written together.
const batch = 400

var errChanged = errors.New("changed meanwhile")

// side says through which stores somebody was told of.
type side struct{ old, new bool }

// same makes those people alike in both stores, and sees that they are: it reads them again when they were
// written. Who cannot be joined is kept in m.refused.
func (m *Mover) same(ctx context.Context, keys []consent.Key, told map[consent.Key]side, look func(*consent.Held)) error {
	for len(keys) > 0 {
		n := min(len(keys), batch)
		if err := m.sameBatch(ctx, keys[:n], told, look); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

func (m *Mover) sameBatch(ctx context.Context, keys []consent.Key, told map[consent.Key]side, look func(*consent.Held)) error {
	for range maxAttempts {
		as, err := m.old.Read(ctx, keys)
		if err != nil {
			return fmt.Errorf("the old store: %w", err)
		}
		bs, err := m.new.Read(ctx, keys)
		if err != nil {
			return fmt.Errorf("the new store: %w", err)
		}
		var again []consent.Key
		var toOld, toNew []edit
		for i, k := range keys {
			want, err := m.join(as[i], bs[i], told[k])
			if err != nil {
				m.refuse(k, err)
				continue
			}
			delete(m.refused, k)
			differs := false
			if !want.Same(as[i]) {
				toOld, differs = append(toOld, edit{as[i], want}), true
			}
			if !want.Same(bs[i]) {
				toNew, differs = append(toNew, edit{bs[i], want}), true
			}
			if differs {
				again = append(again, k)
			} else if look != nil {
				look(want)
			}
		}
		// The new store first: gateways that were switched are not to wait for the others.
		if err := write(ctx, m.new, toNew); err != nil {
			return fmt.Errorf("the new store: %w", err)
		}
		if err := write(ctx, m.old, toOld); err != nil {
			return fmt.Errorf("the old store: %w", err)
		}
		if keys = again; len(keys) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%d people change all the time", len(keys))
}

// edit is one person to write, if still as was.
type edit struct{ was, now *consent.Held }

func write(ctx context.Context, s Store, edits []edit) error {
	if len(edits) == 0 {
		return nil
	}
	keys := make([]consent.Key, len(edits))
	for i, e := range edits {
		keys[i] = e.was.Key
	}
	errs, err := s.Edit(ctx, keys, func(i int, h *consent.Held) (consent.Update, error) {
		if !h.Same(edits[i].was) {
			return consent.Update{}, errChanged
		}
		return h.Until(edits[i].now), nil
	})
	if err != nil {
		return err
	}
	for _, err := range errs {
		if err != nil && !errors.Is(err, errChanged) { // who changed is joined anew
			return err
		}
	}
	return nil
}

// join says what a person is in both stores. Who is in one store alone is new there, or was erased in the other.
func (m *Mover) join(a, b *consent.Held, told side) (*consent.Held, error) {
	alone, toldByOther := a, told.new
	switch {
	case a.Empty() == b.Empty():
		return m.Ledger.Join(a, b)
	case a.Empty():
		alone, toldByOther = b, told.old
	}
	first, known := alone.First()
	gone := false
	switch {
	case !known: // an opt-out that outlived its person
	case m.first:
		gone = b == alone
	case toldByOther:
		gone = true
	default:
		gone = !m.synced.IsZero() && first.Time.Before(m.synced.Add(-skew))
	}
	if gone {
		return m.Ledger.Erased(alone)
	}
	return alone, nil
}

// refuse notes, and says once, who could not be joined.
func (m *Mover) refuse(k consent.Key, err error) {
	if m.refused[k] == nil {
		m.Say(fmt.Sprintf("person %s differs between the stores and is left as it is: %v", k, err))
	}
	m.refused[k] = err
}
