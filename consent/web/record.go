package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/consentgate/consentgate/consent"
)

// record is what is recorded of one person in one scope.
type record struct {
	Scope   consent.Scope                     `json:"scope"`
	Address string                            `json:"address"` // as it is compared, in its normal form
	Mail    consent.State                     `json:"mail"`
	Open    consent.State                     `json:"open"`
	Click   consent.State                     `json:"click"`
	Version uint64                            `json:"version"` // changes so far; 0 = never seen
	Detail  map[consent.Purpose]consentDetail `json:"detail"`  // of the purposes that were ever recorded
}

type consentDetail struct {
	Time   time.Time      `json:"time"` // UTC, RFC 3339
	Source consent.Source `json:"source"`
	Notice string         `json:"notice"`
}

func newRecord(who consent.Address, rec consent.Record) record {
	out := record{
		Scope: rec.Scope, Address: who.String(), Version: rec.Version,
		Mail: consent.Subscribed, Open: consent.Unset, Click: consent.Unset,
		Detail: map[consent.Purpose]consentDetail{},
	}
	for _, p := range []struct {
		purpose consent.Purpose
		entry   consent.Entry
		state   *consent.State
	}{{consent.Mail, rec.Mail, &out.Mail}, {consent.Open, rec.Open, &out.Open}, {consent.Click, rec.Click, &out.Click}} {
		if p.entry.State != "" {
			*p.state = p.entry.State
			out.Detail[p.purpose] = consentDetail{p.entry.Time, p.entry.Source, p.entry.Notice}
		}
	}
	return out
}

// pathAddress reads whom the path names.
func pathAddress(r *http.Request) (consent.Address, error) {
	who, err := consent.ParseAddress(r.PathValue("address"))
	if err != nil {
		return who, bad("address", err.Error())
	}
	return who, nil
}

// key reads whose record in which scope the path names.
func key(r *http.Request) (consent.Address, consent.Scope, error) {
	scope, err := consent.ParseScope(r.PathValue("scope"))
	if err != nil {
		return consent.Address{}, "", bad("scope", err.Error())
	}
	who, err := pathAddress(r)
	return who, scope, err
}

func (a *admin) get(w http.ResponseWriter, r *http.Request) error {
	who, scope, err := key(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	rs, err := a.Store.Lookup(ctx, scope, []consent.Address{who})
	return answer(w, who, rs, err)
}

func (a *admin) put(w http.ResponseWriter, r *http.Request) error {
	who, scope, err := key(r)
	if err != nil {
		return err
	}
	change, err := readChange(w, r)
	if err != nil {
		return err
	}
	if change.IfVersion, err = ifMatch(r); err != nil {
		return err
	}
	change.Who, change.Scope, change.Source, change.Origin, change.Time = who, scope, a.Source, origin(r), a.Now()
	ctx, cancel := carriedOut(r, storeTimeout)
	defer cancel()
	rs, err := a.Store.Apply(ctx, []consent.Change{change})
	if err == nil && rs[0].Err == nil {
		attrs := []any{"scope", scope, "person", a.named(who)}
		for _, set := range []struct {
			purpose consent.Purpose
			state   consent.State
		}{{consent.Mail, change.Mail}, {consent.Open, change.Open}, {consent.Click, change.Click}} {
			if set.state != "" {
				attrs = append(attrs, string(set.purpose), set.state)
			}
		}
		level := slog.LevelInfo
		if a.Source == consent.FromAPI { // a program may tell of everybody it knows, one by one
			level = slog.LevelDebug
		}
		a.changed(r, level, "consent changed", attrs...)
	}
	return answer(w, who, rs, err)
}

// carriedOut is the context of a change: what arrived is made, even if who sent it has gone
// meanwhile.
func carriedOut(r *http.Request, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), limit)
}

var etag = regexp.MustCompile(`^"(0|[1-9][0-9]{0,18})"$`)

// ifMatch reads the version that the record must have (RFC 9110 §13.1.1), 0 for any.
func ifMatch(r *http.Request) (uint64, error) {
	values := r.Header.Values("If-Match")
	if len(values) == 0 || len(values) == 1 && values[0] == "*" { // there always is a record
		return 0, nil
	}
	m := etag.FindStringSubmatch(values[0])
	if m == nil || len(values) > 1 {
		return 0, bad("If-Match", "it is not one ETag of an answer", `"3"`)
	}
	version, err := strconv.ParseUint(m[1], 10, 64)
	if err != nil {
		return 0, err
	}
	if version == 0 {
		version = consent.NeverSeen
	}
	return version, nil
}

// answer writes the one record that the store returned, or returns why it did not.
func answer(w http.ResponseWriter, who consent.Address, rs []consent.Result, err error) error {
	if err == nil {
		err = rs[0].Err
	}
	if err != nil {
		return err
	}
	out := newRecord(who, rs[0].Scope)
	w.Header().Set("ETag", fmt.Sprintf(`"%d"`, out.Version))
	writeJSON(w, http.StatusOK, "application/json", out)
	return nil
}

const (
	maxLookup     = 10_000  // addresses
	maxLookupBody = 4 << 20 // bytes
)

// unanswered is what a lookup says of a person of whom it has no record.
type unanswered struct {
	Address string `json:"address"` // as it was asked for
	Error   string `json:"error"`
}

func (a *admin) lookup(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r, maxLookupBody)
	if err != nil {
		return err
	}
	var asked struct {
		Scope     *string   `json:"scope"`
		Addresses *[]string `json:"addresses"`
	}
	if err := readMembers(body, &asked, "scope", "addresses"); err != nil {
		return err
	}
	switch {
	case asked.Scope == nil:
		return bad("scope", "is missing")
	case asked.Addresses == nil:
		return bad("addresses", "is missing")
	case len(*asked.Addresses) > maxLookup:
		return bad("addresses", fmt.Sprintf("there are %d, at most %d may be asked for at once", len(*asked.Addresses), maxLookup))
	}
	scope, err := consent.ParseScope(*asked.Scope)
	if err != nil {
		return bad("scope", err.Error())
	}
	records := make([]any, len(*asked.Addresses))
	var people []consent.Address
	var places []int
	for i, address := range *asked.Addresses {
		who, err := consent.ParseAddress(address)
		if err != nil {
			records[i] = unanswered{address, err.Error()}
			continue
		}
		people, places = append(people, who), append(places, i)
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	rs, err := a.Store.Lookup(ctx, scope, people)
	if err != nil {
		return err
	}
	for i, result := range rs {
		if result.Err != nil {
			a.Log.Error("the consent store failed the API", "err", result.Err)
			records[places[i]] = unanswered{(*asked.Addresses)[places[i]], publicCause(result.Err)}
			continue
		}
		records[places[i]] = newRecord(people[i], result.Scope)
	}
	writeJSON(w, http.StatusOK, "application/json", struct {
		Records []any `json:"records"`
	}{records})
	return nil
}

// readMembers reads a JSON object into v, which has these members and no other.
func readMembers(body []byte, v any, allowed ...string) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return bad("", "the body is not a JSON object", allowed...)
	}
	for name := range members {
		if !slices.Contains(allowed, name) {
			return bad(name, fmt.Sprintf("there is no member %.64q", name), allowed...)
		}
	}
	if err := json.Unmarshal(body, v); err != nil {
		if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
			return bad(wrong.Field, "the member must not be "+wrong.Value)
		}
		return bad("", "the body is not JSON")
	}
	return nil
}
