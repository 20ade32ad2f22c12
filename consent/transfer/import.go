package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/consentgate/consentgate/consent"
)

// An import never undoes what somebody decided later. Of each purpose that a line names, it
// takes what is
//
//   - later than what is recorded, by the line's own time or that of the ReadOptions;
//   - or not looser than what is recorded, and not earlier; where the line has no time at all it
//     counts as of now, but cannot loosen: nobody knows that it is later than the opt-out.
//
// What it does not take is kept as recorded, counted and reported. Looser is subscribed than
// unsubscribed, granted than unset, unset than denied. So the list of some other tool, imported
// once more, subscribes nobody who unsubscribed here.

// batch is how many lines are looked up and changed together: in the embedded file that is one commit, which
// others who write wait for, some 0.2 s.
const batch = 4000

// maxTries is how often a line is tried whose record others change meanwhile.
const maxTries = 20

// Summary counts the lines of an import; empty ones do not count.
type Summary struct {
	Lines     int `json:"lines"`     // read
	Changed   int `json:"changed"`   // changed a record, or would
	Unchanged int `json:"unchanged"` // said what was recorded already
	Kept      int `json:"kept"`      // of these something was not taken, what is recorded being later or tighter
	Bad       int `json:"bad"`       // could not be read, or not be made
}

// Add counts the lines of another import in.
func (s *Summary) Add(o Summary) {
	s.Lines += o.Lines
	s.Changed += o.Changed
	s.Unchanged += o.Unchanged
	s.Kept += o.Kept
	s.Bad += o.Bad
}

// Note is what is reported of a line that was not taken, or not in all.
type Note struct {
	Line   int               `json:"line"`
	Field  string            `json:"field,omitempty"` // what is wrong in the line
	Kept   []consent.Purpose `json:"kept,omitempty"`  // which purposes stay as they were; of a bad line none
	Detail string            `json:"detail"`
}

// ImportOptions say how lines are taken.
type ImportOptions struct {
	Origin string // for the history, see consent.Change
	Now    func() time.Time
	DryRun bool // changes nothing, and counts what would
	// Report is told of each line that is bad or kept; an error of it ends the import. Within a
	// batch the bad ones come before the kept ones.
	Report func(Note) error
}

// numbered is a row with the number of its line.
type numbered struct {
	Row
	line int
}

// Import reads all lines and makes what they say true. Where it returns an error the Summary
// counts what was done until then; the same lines once more do no harm. An error that wraps
// consent.ErrUnreachable is the store's; one of the reader's source is returned as it is.
func Import(ctx context.Context, store consent.Store, r *Reader, o ImportOptions) (Summary, error) {
	im := &importing{store: store, ImportOptions: o}
	rows := make([]numbered, 0, batch)
	for {
		row, line, err := r.Next()
		var wrong *LineError
		switch {
		case err == io.EOF:
			err := im.take(ctx, rows)
			return im.sum, err
		case errors.As(err, &wrong):
			im.sum.Lines++
			if err := im.bad(Note{Line: wrong.Line, Field: wrong.Field, Detail: wrong.Wrong}); err != nil {
				return im.sum, err
			}
			continue
		case err != nil:
			return im.sum, errors.Join(err, im.take(ctx, rows)) // what came before it is good
		}
		im.sum.Lines++
		rows = append(rows, numbered{row, line})
		if len(rows) == batch {
			if err := im.take(ctx, rows); err != nil {
				return im.sum, err
			}
			rows = rows[:0]
		}
	}
}

// importing is an import under way.
type importing struct {
	store consent.Store
	ImportOptions
	sum Summary
}

func (im *importing) bad(n Note) error {
	im.sum.Bad++
	return im.Report(n)
}

// place is one record.
type place struct {
	who   consent.Address
	scope consent.Scope
}

// take makes the rows true. Two of the same record count one after the other.
func (im *importing) take(ctx context.Context, rows []numbered) error {
	for try := 0; len(rows) > 0; try++ {
		records, unreadable, err := im.lookup(ctx, rows)
		if err != nil {
			return err
		}
		var changes []consent.Change
		var changing []numbered
		kept := map[int]Note{}
		for _, row := range rows {
			at := place{row.Address, row.Scope}
			if unreadable[row.Address] {
				if err := im.bad(unreadableNote(row.line)); err != nil {
					return err
				}
				continue
			}
			recorded := records[at]
			c, note, err := im.change(row, recorded)
			if err != nil {
				if err := im.bad(Note{Line: row.line, Field: "time", Detail: err.Error()}); err != nil {
					return err
				}
				continue
			}
			after, changed := recorded.Merge(c)
			switch {
			case note.Kept != nil && !changed:
				im.sum.Kept++
				if err := im.Report(note); err != nil {
					return err
				}
			case !changed:
				im.sum.Unchanged++
			default:
				if note.Kept != nil {
					kept[row.line] = note
				}
				if c.IfVersion = recorded.Version; c.IfVersion == 0 {
					c.IfVersion = consent.NeverSeen
				}
				records[at] = after
				changes = append(changes, c)
				changing = append(changing, row)
			}
		}
		again, err := im.apply(ctx, changes, changing, kept)
		if err != nil {
			return err
		}
		if rows = again; try == maxTries {
			for _, row := range rows {
				if err := im.bad(Note{Line: row.line, Detail: "others change this record all the time: try again later"}); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return nil
}

func unreadableNote(line int) Note {
	return Note{Line: line, Detail: "what is recorded of this person cannot be read"}
}

// lookup reads the records that the rows are about, and whose cannot be read.
func (im *importing) lookup(ctx context.Context, rows []numbered) (map[place]consent.Record, map[consent.Address]bool, error) {
	people := map[consent.Scope][]consent.Address{}
	records := make(map[place]consent.Record, len(rows))
	for _, row := range rows {
		at := place{row.Address, row.Scope}
		if _, twice := records[at]; !twice {
			records[at] = consent.Record{}
			people[row.Scope] = append(people[row.Scope], row.Address)
		}
	}
	unreadable := map[consent.Address]bool{}
	for scope, who := range people {
		results, err := im.store.Lookup(ctx, scope, who)
		if err != nil {
			return nil, nil, err
		}
		for i, r := range results {
			if ofStore(r.Err) {
				return nil, nil, r.Err
			}
			if r.Err != nil {
				unreadable[who[i]] = true
			}
			records[place{who[i], scope}] = r.Scope
		}
	}
	return records, unreadable, nil
}

// change is what a row changes in what is recorded, and which of its purposes it must not.
func (im *importing) change(row numbered, recorded consent.Record) (consent.Change, Note, error) {
	c := consent.Change{
		Who: row.Address, Scope: row.Scope,
		Mail: row.Mail, Open: row.Open, Click: row.Click,
		Source: row.Source, Origin: im.Origin, Notice: row.Notice, Time: row.Time,
	}
	if c.Source == "" {
		c.Source = consent.FromImport
	}
	now := im.Now()
	if c.Time.IsZero() {
		c.Time = now
	} else if c.Time.After(now.Add(24 * time.Hour)) {
		return c, Note{}, fmt.Errorf("%s is in the future", c.Time.Format(time.RFC3339))
	}
	note := Note{Line: row.line, Detail: "what is recorded was decided later"}
	for _, p := range [...]struct {
		purpose  consent.Purpose
		state    *consent.State
		recorded consent.Entry
	}{{consent.Mail, &c.Mail, recorded.Mail}, {consent.Open, &c.Open, recorded.Open}, {consent.Click, &c.Click, recorded.Click}} {
		if *p.state == "" || p.recorded.State == "" {
			continue
		}
		looser := freedom[*p.state] > freedom[p.recorded.State]
		timed, at := !row.Time.IsZero(), c.Time.Truncate(time.Second)
		switch {
		case looser && !timed:
			note.Detail = "somebody said no, and the line does not say that it is later: give it a time"
		case looser && (p.recorded.Time.IsZero() || !at.After(p.recorded.Time)):
		case timed && at.Before(p.recorded.Time):
			if *p.state == p.recorded.State { // an earlier proof of the same
				*p.state = ""
				continue
			}
		default:
			continue
		}
		*p.state = ""
		note.Kept = append(note.Kept, p.purpose)
	}
	return c, note, nil
}

// freedom orders the states of a purpose by what they let happen.
var freedom = map[consent.State]int{
	consent.Unsubscribed: 0, consent.Subscribed: 1,
	consent.Denied: 0, consent.Unset: 1, consent.Granted: 2,
}

// apply makes the changes and returns the rows to try again, since others changed their
// records meanwhile.
func (im *importing) apply(ctx context.Context, changes []consent.Change, rows []numbered, kept map[int]Note) ([]numbered, error) {
	var again []numbered
	results := make([]consent.Result, len(changes))
	if !im.DryRun && len(changes) > 0 {
		var err error
		if results, err = im.store.Apply(ctx, changes); err != nil {
			return nil, err
		}
	}
	var failed error
	for i, r := range results {
		var err error
		note, isKept := kept[rows[i].line]
		switch {
		case ofStore(r.Err):
			failed = r.Err // the others are counted first
		case errors.Is(r.Err, consent.ErrConflict):
			again = append(again, rows[i])
		case r.Err != nil:
			err = im.bad(unreadableNote(rows[i].line))
		default:
			im.sum.Changed++
			if isKept {
				im.sum.Kept++
				err = im.Report(note)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return again, failed
}

// ofStore reports whether an error is none of one person, but ends the import.
func ofStore(err error) bool {
	return errors.Is(err, consent.ErrUnreachable) || errors.Is(err, consent.ErrForeign) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
