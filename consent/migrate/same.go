package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"

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

// join says what a person is in both stores. Who is in one store alone is new there, or was erased in the
// other, or lost by it.
func (m *Mover) join(a, b *consent.Held, told side) (*consent.Held, error) {
	alone, toldByOther := a, told.new
	switch {
	case a.Empty() == b.Empty():
		return m.Ledger.Join(a, b)
	case a.Empty():
		alone, toldByOther = b, told.old
	}
	fromNew := b == alone
	if _, known := alone.First(); known && toldByOther && (fromNew || !m.first) {
		return m.Ledger.Erased(alone)
	}
	if missing, optOut, err := m.missing(alone, fromNew); err != nil {
		return nil, err
	} else if missing && !optOut && m.Missing != Keep {
		return m.Ledger.Erased(alone)
	}
	return alone, nil
}

// missing reports whether somebody in one store alone was in the other, too. optOut reports that an erasure there
// would have left an opt-out, so that it was none.
func (m *Mover) missing(alone *consent.Held, fromNew bool) (missing, optOut bool, err error) {
	first, known := alone.First()
	switch {
	case !known: // an opt-out that outlived its person
		return false, false, nil
	case m.first:
		missing = fromNew
	default:
		missing = !m.synced.IsZero() && first.Time.Before(m.synced.Add(-skew))
	}
	if !missing {
		return false, false, nil
	}
	left, err := m.Ledger.Erased(alone)
	if err != nil {
		return true, false, err
	}
	for scope, text := range left.Fields {
		r, err := consent.ParseRecord(consent.Scope(scope), text)
		if err != nil {
			return true, false, err
		}
		optOut = optOut || m.first || r.Mail.Time.Before(m.synced.Add(-skew)) // else made since, here alone
	}
	return true, optOut, nil
}

// look counts who is missing, and changes nothing. Where nobody said what became of them the error is ErrMissing.
func (m *Mover) look(ctx context.Context) error {
	if !m.first && m.synced.IsZero() {
		return nil
	}
	stores, names := [...]Store{m.old, m.new}, [...]string{"the store to move from", "the store to move to"}
	var said []string
	for i, s := range stores {
		if i == 0 && m.first { // who is there alone is not copied yet
			continue
		}
		total, err := s.Count(ctx)
		if err != nil {
			return err
		}
		var done int64
		missing := map[consent.Key]bool{} // true: with an opt-out
		for page, err := range s.Pages(ctx) {
			if err != nil {
				return err
			}
			keys := make([]consent.Key, len(page))
			for j, h := range page {
				keys[j] = h.Key
			}
			others, err := stores[1-i].Read(ctx, keys)
			if err != nil {
				return err
			}
			for j, h := range page {
				if h.Empty() || !others[j].Empty() {
					continue
				}
				if is, optOut, _ := m.missing(h, i == 1); is { // who cannot be read is left as it is
					missing[h.Key] = optOut
				}
			}
			done += int64(len(page))
			m.Progress("looked for in the other store", done, max(total, done))
		}
		if n := len(missing); n > 0 {
			outs := 0
			for _, optOut := range missing {
				if optOut {
					outs++
				}
			}
			said = append(said, fmt.Sprintf("%d people of %s are missing in %s, %d of them unsubscribed", n, names[i], names[1-i], outs))
		}
	}
	if len(said) == 0 {
		return nil
	}
	text := strings.Join(said, "; ")
	switch m.Missing {
	case Keep:
		m.Say(text + ": all stay, as --missing keep says.")
	case Erased:
		m.Say(text + ": those are kept, the others erased, as --missing erased says.")
	default:
		return fmt.Errorf("%s: %w", text, ErrMissing)
	}
	return nil
}

// refuse notes, and says once, who could not be joined.
func (m *Mover) refuse(k consent.Key, err error) {
	if m.refused[k] == nil {
		m.Say(fmt.Sprintf("person %s differs between the stores and is left as it is: %v", k, err))
	}
	m.refused[k] = err
}
