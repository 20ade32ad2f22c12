package web

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
)

// undo brings back what held before the page changed it, for whoever changed it just now and nobody
// else, and only while nothing has changed since. So it can bring about no consent that was not there,
// and needs no confirmation.
func (p *public) undo(ctx context.Context, w http.ResponseWriter, r *http.Request, t *text, claims token.Claims, text string) {
	slip, err := p.undos.Open(text, p.Now())
	if errors.Is(err, token.ErrInvalid) || slip.Who != claims.Who || slip.Record.Scope != claims.Scope {
		p.badForm(w, r, t, nil)
		return
	}
	said := t.UndoGone
	if err == nil {
		err = p.restore(ctx, claims, slip, p.origin(r))
		if err == nil {
			said = t.Undone
			p.Log.Info("consent changed", "id", consent.Request(ctx), "source", consent.FromPage, "scope", claims.Scope, "do", "undo")
		} else if !errors.Is(err, consent.ErrConflict) {
			p.down(w, r, t, claims, err)
			return
		}
	}
	now, err := p.lookup(ctx, claims)
	if err != nil {
		p.down(w, r, t, claims, err)
		return
	}
	page := p.page(t, claims, now)
	page.Said = said
	p.render(w, r, http.StatusOK, p.look.in[t].page, page)
}

// restore records the states of a slip again, each with the notice that it had, one change a notice. What was
// withdrawn for all lists since then is a change too, though the record of this one does not show it.
func (p *public) restore(ctx context.Context, claims token.Claims, slip token.Slip, origin string) error {
	now, err := p.lookup(ctx, claims)
	if err != nil {
		return err
	}
	anywhere := entries(&now.Any)
	var changes []consent.Change
	for purpose, was := range entries(&slip.Record) {
		if was.State == "" {
			continue
		}
		if all := anywhere[purpose]; isGrant(was.State) && all.State != "" && !isGrant(all.State) && !all.Time.Before(slip.Made) {
			return consent.ErrConflict
		}
		i := slices.IndexFunc(changes, func(c consent.Change) bool { return c.Notice == was.Notice })
		if i < 0 {
			i = len(changes)
			changes = append(changes, consent.Change{Who: slip.Who, Scope: slip.Record.Scope, Source: consent.FromPage, Origin: origin, Notice: was.Notice, Time: p.Now()})
		}
		set(&changes[i], purpose, was.State)
	}
	version := slip.Record.Version
	for _, c := range changes {
		c.IfVersion = version
		now, err := p.apply(ctx, claims, []consent.Change{c})
		if err != nil {
			return err
		}
		version = now.Scope.Version
	}
	return nil
}
