package transfer

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"io"
	"slices"
	"time"

	"github.com/consentgate/consentgate/consent"
)

// Writer writes people as lines that Reader reads again.
type Writer struct {
	out       *bufio.Writer
	csv       *csv.Writer // nil for NDJSON
	addresses bool
}

// NewWriter writes in that format, with addresses in the clear, or with what the store calls a
// person in their place. A CSV file begins with its header unless it goes on with another.
func NewWriter(w io.Writer, format Format, addresses, goesOn bool) *Writer {
	out := &Writer{out: bufio.NewWriterSize(w, 32<<10), addresses: addresses}
	if format == CSV {
		out.csv = csv.NewWriter(out.out)
		if !goesOn {
			out.csv.Write(out.columns()) // an error stays until Flush
		}
	}
	return out
}

// columns are the header of a CSV file.
func (w *Writer) columns() []string {
	leave := "person"
	if !w.addresses {
		leave = "address"
	}
	return slices.DeleteFunc(slices.Clone(members), func(m string) bool { return m == leave })
}

// object is a line of NDJSON.
type object struct {
	Address string         `json:"address,omitempty"`
	Person  string         `json:"person,omitempty"`
	Scope   consent.Scope  `json:"scope"`
	Mail    consent.State  `json:"mail,omitempty"`
	Open    consent.State  `json:"open,omitempty"`
	Click   consent.State  `json:"click,omitempty"`
	Time    string         `json:"time,omitempty"`
	Source  consent.Source `json:"source,omitempty"`
	Notice  string         `json:"notice,omitempty"`
}

// MarshalJSON writes the row as a line of NDJSON has it, without the line end.
func (r Row) MarshalJSON() ([]byte, error) {
	o := r.object()
	o.Address, o.Scope = r.Address.String(), r.Scope
	return json.Marshal(o)
}

// object is the line of the row but for whose it is, and in which scope.
func (r Row) object() object {
	o := object{Mail: r.Mail, Open: r.Open, Click: r.Click, Source: r.Source, Notice: r.Notice}
	if !r.Time.IsZero() {
		o.Time = r.Time.UTC().Format(time.RFC3339)
	}
	return o
}

// Write writes the lines of one person. Somebody erased has no address, and is named by the store's
// own name in every export.
func (w *Writer) Write(p consent.Person) error {
	var who object
	if w.addresses && !p.Address.IsZero() {
		who.Address = p.Address.String()
	} else if who.Person = p.Key.String(); w.addresses && w.csv != nil {
		who.Person = "" // there is no column for it, and nobody could import it
	}
	for _, r := range p.Records {
		for _, row := range rowsOf(r) {
			o := row.object()
			o.Address, o.Person, o.Scope = who.Address, who.Person, r.Scope
			if err := w.write(o); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *Writer) write(o object) error {
	if w.csv == nil {
		text, err := json.Marshal(o)
		if err != nil {
			return err
		}
		_, err = w.out.Write(append(text, '\n'))
		return err
	}
	name := o.Address
	if !w.addresses {
		name = o.Person
	}
	return w.csv.Write([]string{name, string(o.Scope), string(o.Mail), string(o.Open), string(o.Click), o.Time, string(o.Source), o.Notice})
}

// rowsOf returns the lines of a record, the earliest first: purposes of one time, source and
// notice share one.
func rowsOf(r consent.Record) []Row {
	var rows []Row
	for i, e := range [...]consent.Entry{r.Mail, r.Open, r.Click} {
		if e.State == "" {
			continue
		}
		at := slices.IndexFunc(rows, func(row Row) bool {
			return row.Time.Equal(e.Time) && row.Source == e.Source && row.Notice == e.Notice
		})
		if at < 0 {
			at = len(rows)
			rows = append(rows, Row{Time: e.Time, Source: e.Source, Notice: e.Notice})
		}
		*[...]*consent.State{&rows[at].Mail, &rows[at].Open, &rows[at].Click}[i] = e.State
	}
	slices.SortStableFunc(rows, func(a, b Row) int { return a.Time.Compare(b.Time) })
	return rows
}

// Withdrawn leaves of a person only what was refused: mail that is unsubscribed, opens and clicks that are denied.
// Imported into an older copy of the store these lines bring back what must not be forgotten, and loosen nothing.
func Withdrawn(p consent.Person) consent.Person {
	var kept []consent.Record
	for _, r := range p.Records {
		if r.Mail.State != consent.Unsubscribed {
			r.Mail = consent.Entry{}
		}
		for _, e := range [...]*consent.Entry{&r.Open, &r.Click} {
			if e.State != consent.Denied {
				*e = consent.Entry{}
			}
		}
		if r.Mail.State != "" || r.Open.State != "" || r.Click.State != "" {
			kept = append(kept, r)
		}
	}
	p.Records = kept
	return p
}

// Flush writes what is not written yet.
func (w *Writer) Flush() error {
	if w.csv != nil {
		w.csv.Flush()
		if err := w.csv.Error(); err != nil {
			return err
		}
	}
	return w.out.Flush()
}
