package web

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/consentgate/consentgate/consent"
)

// What the API does with all that is held of one person.

// rightsTimeout is how long the store may take to erase or rename somebody, or to be accepted.
const rightsTimeout = 5 * time.Minute

// event is consent.Event as the API shows it.
type event struct {
	Number uint64            `json:"number"`
	Kind   consent.EventKind `json:"kind"`
	Time   time.Time         `json:"time"`
	Scope  consent.Scope     `json:"scope,omitempty"`
	Source consent.Source    `json:"source,omitempty"`
	Origin string            `json:"origin,omitempty"`
	Notice string            `json:"notice,omitempty"`
	Old    consent.States    `json:"old,omitzero"`
	New    consent.States    `json:"new,omitzero"`
	Broken string            `json:"broken,omitempty"`
}

// history is a person's events, and whether the chain that they are in holds.
type history struct {
	Intact bool    `json:"intact"`
	Events []event `json:"events"`
}

func (a *admin) readHistory(ctx context.Context, who consent.Address) (history, error) {
	h := history{Intact: true, Events: []event{}}
	for e, err := range a.Store.History(ctx, who) {
		if err != nil {
			return h, err
		}
		h.Intact = h.Intact && e.Broken == ""
		h.Events = append(h.Events, event{
			e.Number, e.Kind, e.Time, e.Scope, e.Source, e.Origin, e.Notice, e.Old, e.New, e.Broken,
		})
	}
	return h, nil
}

func (a *admin) history(w http.ResponseWriter, r *http.Request) error {
	who, err := pathAddress(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	h, err := a.readHistory(ctx, who)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, "application/json", struct {
		Address string `json:"address"`
		history
	}{who.String(), h})
	return nil
}

func (a *admin) export(w http.ResponseWriter, r *http.Request) error {
	who, err := pathAddress(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	person, err := a.Store.Person(ctx, who)
	if err != nil {
		return err
	}
	h, err := a.readHistory(ctx, who)
	if err != nil {
		return err
	}
	records := make([]record, len(person.Records))
	for i, rec := range person.Records {
		records[i] = newRecord(who, rec)
	}
	writeJSON(w, http.StatusOK, "application/json", struct {
		Address string   `json:"address"`
		Person  string   `json:"person"`
		Records []record `json:"records"`
		History history  `json:"history"`
	}{who.String(), a.Store.Key(who).String(), records, h})
	return nil
}

func (a *admin) erase(w http.ResponseWriter, r *http.Request) error {
	who, err := pathAddress(r)
	if err != nil {
		return err
	}
	return a.made(w, r, func(ctx context.Context) error {
		if a.Forget != nil {
			if err := a.Forget(who); err != nil {
				a.Log.Error("somebody cannot be taken out of what waits, and was not erased", "id", consent.Request(r.Context()), "err", err)
				return problem{Status: http.StatusInternalServerError, Detail: "the person cannot be taken out of what waits, and was not erased; the log says why"}
			}
		}
		err := a.Store.Erase(ctx, who)
		if err == nil {
			a.changed(r, slog.LevelInfo, "a person was erased") // not even masked: a domain may be a name
		}
		return err
	})
}

func (a *admin) rename(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r, maxChange)
	if err != nil {
		return err
	}
	members, err := readObject(body, `{"old":"ana@example.org","new":"anna@example.org"}`)
	if err != nil {
		return err
	}
	var who [2]consent.Address
	for i, name := range []string{"old", "new"} {
		value, ok := members[name]
		if !ok {
			return bad(name, "is missing")
		}
		if who[i], err = consent.ParseAddress(value); err != nil {
			return bad(name, err.Error())
		}
		delete(members, name)
	}
	for name := range members {
		return bad(name, "there is no such member", "old", "new")
	}
	if who[0] == who[1] {
		return bad("new", "it is the same address")
	}
	return a.made(w, r, func(ctx context.Context) error {
		person, err := a.Store.Person(ctx, who[0])
		if err == nil && len(person.Records) == 0 {
			err = problem{Status: http.StatusNotFound, Field: "old", Detail: "nothing is recorded of this address"}
		}
		if err != nil {
			return err
		}
		err = a.Store.Rename(ctx, who[0], who[1], a.Source, a.Now())
		if err == nil {
			a.changed(r, slog.LevelInfo, "a person's records went to another address", "old", a.named(who[0]), "new", a.named(who[1]))
		}
		return err
	})
}

func (a *admin) acceptStore(w http.ResponseWriter, r *http.Request) error {
	return a.made(w, r, func(ctx context.Context) error {
		err := a.Store.AcceptStore(ctx)
		if err == nil {
			a.changed(r, slog.LevelInfo, "the consent store is accepted as it is")
		}
		return err
	})
}

// made does what may take long, and answers that it is done.
func (a *admin) made(w http.ResponseWriter, r *http.Request, do func(context.Context) error) error {
	ctx, cancel := carriedOut(r, rightsTimeout)
	defer cancel()
	if err := extend(http.NewResponseController(w), rightsTimeout, rightsTimeout+pieceTime); err != nil {
		return err
	}
	if err := do(ctx); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
