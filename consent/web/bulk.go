package web

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/transfer"
)

// Everybody's records, in and out. Neither way does the memory grow with them.

const (
	maxPage      = 10_000  // people in a page of an export, but for the rest of a group
	maxPageBytes = 8 << 20 // a page ends earlier where it grows over this
)

var formats = map[transfer.Format]string{transfer.NDJSON: "application/x-ndjson", transfer.CSV: "text/csv"}

// query reads the parameters, of which only these are known: a misspelt dry_run would import.
func query(r *http.Request, known ...string) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, bad("", "the parameters behind the ? cannot be read")
	}
	for name, v := range values {
		if !slices.Contains(known, name) {
			return nil, bad(name, "there is no such parameter", known...)
		}
		if len(v) > 1 {
			return nil, bad(name, "the parameter comes twice")
		}
	}
	return values, nil
}

// flag reads a parameter that is true or false, which it is where it is missing.
func flag(values url.Values, name string) (bool, error) {
	switch values.Get(name) {
	case "true":
		return true, nil
	case "false", "":
		return false, nil
	}
	return false, bad(name, "it is neither", "true", "false")
}

// exportAll answers with all records from a cursor on: with the parameter limit a page of so
// many people, whose Link field names the next (RFC 8288), else all to the end, as they are read.
// Where a store reads people in groups that share a cursor, a page ends with a group, so that the next
// one has nobody once more.
func (a *admin) exportAll(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "cursor", "limit", "with_addresses", "withdrawn")
	if err != nil {
		return err
	}
	addresses, err := flag(q, "with_addresses")
	if err != nil {
		return err
	}
	withdrawn, err := flag(q, "withdrawn")
	if err != nil {
		return err
	}
	keep := func(p consent.Person) consent.Person { return p }
	if withdrawn {
		keep = transfer.Withdrawn
	}
	if addresses && a.Tokens != nil {
		if _, err := a.Tokens.check(w, r, writes); err != nil {
			return err
		}
	}
	format, err := accepted(r)
	if err != nil {
		return err
	}
	limit := 0
	if q.Has("limit") {
		if limit, err = strconv.Atoi(q.Get("limit")); err != nil || limit < 1 || limit > maxPage {
			return bad("limit", "it is not a number of people", fmt.Sprintf("1 to %d", maxPage))
		}
	}
	w.Header().Set("Content-Type", formats[format])
	if format == transfer.CSV {
		w.Header().Set("Content-Disposition", `attachment; filename="consent.csv"`)
	}
	if err := extend(http.NewResponseController(w), rightsTimeout, rightsTimeout); err != nil {
		return err
	}
	from := consent.Cursor(q.Get("cursor"))
	if limit == 0 {
		return a.exportStream(w, r, from, format, addresses, keep)
	}
	var page bytes.Buffer
	lines := transfer.NewWriter(&page, format, addresses, from != "")
	n, behind, full := 0, from, false
	for person, err := range a.Store.Scan(r.Context(), from) {
		if err != nil {
			return a.scanError(err, from, n)
		}
		if full { // and there is one more
			q.Set("cursor", string(behind))
			w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.EscapedPath(), q.Encode()))
			break
		}
		if err := lines.Write(keep(person)); err != nil {
			return err
		}
		n++
		full = (n >= limit || page.Len() > maxPageBytes) && person.Next != behind
		behind = person.Next
	}
	if err := lines.Flush(); err != nil {
		return err
	}
	_, err = (&patient{w: w}).Write(page.Bytes())
	return err
}

func (a *admin) exportStream(w http.ResponseWriter, r *http.Request, from consent.Cursor, format transfer.Format, addresses bool, keep func(consent.Person) consent.Person) error {
	out := &patient{w: w}
	lines := transfer.NewWriter(out, format, addresses, from != "")
	err := func() error {
		n := 0
		for person, err := range a.Store.Scan(r.Context(), from) {
			if err != nil {
				return a.scanError(err, from, n)
			}
			if err := lines.Write(keep(person)); err != nil {
				return err
			}
			n++
		}
		return lines.Flush()
	}()
	if err != nil && out.begun {
		a.Log.Error("an export of the API was cut off", "err", err)
		panic(http.ErrAbortHandler) // so that nobody takes what went out for all
	}
	return err
}

// scanError is the error of a Scan that yielded n people from a cursor on. A store does not say
// what is wrong with a cursor otherwise than by an error that is none of the store as a whole.
func (a *admin) scanError(err error, from consent.Cursor, n int) error {
	if from == "" || n > 0 || unanswering(err) {
		return err
	}
	a.Log.Error("an export cannot go on", "err", err)
	return bad("cursor", "the store cannot go on from there, since it is another, was restarted or is damaged: begin anew without it")
}

// accepted is the format that the client likes best of those that there are.
func accepted(r *http.Request) (transfer.Format, error) {
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if strings.TrimSpace(accept) == "" {
		return transfer.NDJSON, nil
	}
	for kind := range strings.SplitSeq(accept, ",") {
		switch kind, _, _ := mime.ParseMediaType(kind); kind {
		case "text/csv":
			return transfer.CSV, nil
		case "application/x-ndjson", "application/*", "*/*":
			return transfer.NDJSON, nil
		}
	}
	return "", problem{Status: http.StatusNotAcceptable, Field: "Accept", Detail: "an export is none of these", Allowed: []string{"application/x-ndjson", "text/csv"}}
}

// importEnd is the last line of an import's answer.
type importEnd struct {
	Summary transfer.Summary `json:"summary"`
	DryRun  bool             `json:"dry_run,omitempty"`
	Stopped string           `json:"stopped,omitempty"` // why what is behind the lines counted was not read
}

// importAll takes lines as they come and answers, while it does, with a line of JSON for each one
// that is bad or was not taken in all, and a last one with the Summary.
func (a *admin) importAll(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "scope", "time", "notice", "columns", "dry_run")
	if err != nil {
		return err
	}
	o, err := readOptions(r, q)
	if err != nil {
		return err
	}
	dry, err := flag(q, "dry_run")
	if err != nil {
		return err
	}
	control := http.NewResponseController(w)
	if err := control.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	lines, err := transfer.NewReader(&steady{r.Body, control}, o)
	if wrong := (*transfer.LineError)(nil); errors.As(err, &wrong) {
		return bad(wrong.Field, wrong.Error())
	} else if err != nil {
		return bad("", err.Error())
	}
	out := &patient{w: w}
	report := bufio.NewWriter(out)
	w.Header().Set("Content-Type", formats[transfer.NDJSON])
	say := func(v any) error {
		text, err := json.Marshal(v)
		if err == nil {
			_, err = report.Write(append(text, '\n'))
		}
		return err
	}
	end := importEnd{DryRun: dry}
	end.Summary, err = transfer.Import(r.Context(), a.Imports, lines, transfer.ImportOptions{
		Origin: origin(r), Now: a.Now, DryRun: dry, Report: func(n transfer.Note) error { return say(n) },
	})
	if err != nil {
		if !out.begun {
			return err
		}
		a.Log.Error("an import over the API was cut off", "err", err)
		end.Stopped = publicCause(err)
		if p := (problem{}); errors.As(err, &p) {
			end.Stopped = p.Detail
		}
	}
	if end.Summary.Changed > 0 && !dry {
		a.changed(r, slog.LevelInfo, "records were imported", "lines", end.Summary.Lines, "changed", end.Summary.Changed)
	}
	if err := errors.Join(say(end), report.Flush()); err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	return nil
}

// readOptions are how the body is read.
func readOptions(r *http.Request, q url.Values) (o transfer.ReadOptions, err error) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	for format, name := range formats {
		if kind == name {
			o.Format = format
		}
	}
	if o.Format == "" {
		return o, problem{Status: http.StatusUnsupportedMediaType, Field: "Content-Type",
			Detail: "the body is lines, and the request says of which kind", Allowed: []string{"application/x-ndjson", "text/csv"}}
	}
	if s := q.Get("scope"); s != "" {
		if o.Default.Scope, err = consent.ParseScope(s); err != nil {
			return o, bad("scope", err.Error())
		}
	}
	if s := q.Get("time"); s != "" {
		if o.Default.Time, err = transfer.ParseTime(s); err != nil {
			return o, bad("time", err.Error())
		}
	}
	if o.Default.Notice = q.Get("notice"); consent.CheckNotice(o.Default.Notice) != nil {
		return o, bad("notice", consent.CheckNotice(o.Default.Notice).Error())
	}
	if s := q.Get("columns"); s != "" {
		if o.Format != transfer.CSV {
			return o, bad("columns", "only text/csv has columns")
		}
		if o.Columns, err = transfer.ParseColumns(s); err != nil {
			return o, bad("columns", err.Error())
		}
	}
	return o, nil
}
