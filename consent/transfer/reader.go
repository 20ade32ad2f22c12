package transfer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// ReadOptions say how lines are read.
type ReadOptions struct {
	Format Format
	// Columns give the columns of a CSV file, by name, the member that each means; "" leaves a
	// column out, and "*": "" all that are named nowhere.
	Columns map[string]string
	Default Row // what a line sets that does not say it itself: its Scope, Time and Notice
}

// ParseColumns reads Columns as people write them: "Email Address=address,Phone=,*=".
func ParseColumns(s string) (map[string]string, error) {
	columns := map[string]string{}
	for pair := range strings.SplitSeq(s, ",") {
		i := strings.LastIndexByte(pair, '=')
		if i < 0 {
			return nil, fmt.Errorf("%q is not COLUMN=MEMBER", shorten(pair))
		}
		name, member := strings.TrimSpace(pair[:i]), strings.TrimSpace(pair[i+1:])
		if _, twice := columns[name]; twice || name == "" {
			return nil, fmt.Errorf("column %q is named twice, or not at all", shorten(name))
		}
		if member != "" && (member == "person" || !slices.Contains(members, member)) {
			return nil, fmt.Errorf("there is no member %q: a line has %s", shorten(member), settable)
		}
		if name == "*" && member != "" {
			return nil, errors.New("* stands for all other columns, which can only be left out: *=")
		}
		columns[name] = member
	}
	return columns, nil
}

// Reader reads lines. Its memory does not grow with them.
type Reader struct {
	lines   *lines
	options ReadOptions
	comma   byte
	columns []string // the member of each, "" = left out
	fields  []string // of the last record, to be used again
}

// NewReader reads src, in CSV the header at once; what is wrong with that is a *LineError.
func NewReader(src io.Reader, o ReadOptions) (*Reader, error) {
	r := &Reader{lines: newLines(src, Position{}), options: o}
	mark, err := r.lines.src.Peek(3)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(mark, []byte("\xef\xbb\xbf")):
		r.lines.src.Discard(3)
		r.lines.behind.Offset = 3
	case bytes.HasPrefix(mark, []byte("\xff\xfe")), bytes.HasPrefix(mark, []byte("\xfe\xff")):
		return nil, errors.New("the file is UTF-16: save it as UTF-8")
	}
	switch {
	case o.Format == CSV:
		return r, r.header(o.Columns)
	case o.Columns != nil:
		return nil, errors.New("only a CSV file has columns to map")
	}
	return r, nil
}

// Resume lets r go on with src, which stands at a place that Position returned.
func (r *Reader) Resume(src io.Reader, at Position) { r.lines = newLines(src, at) }

// Position is the place behind what Next returned last.
func (r *Reader) Position() Position { return r.lines.behind }

// Next returns the next line that holds something, and its number. An error is io.EOF; a
// *LineError, behind which it goes on; or that of the source.
func (r *Reader) Next() (Row, int, error) {
	for {
		row, number, err := r.blank(), 0, error(nil)
		if r.options.Format == CSV {
			number, err = r.nextRecord(&row)
		} else {
			number, err = r.nextObject(&row)
		}
		if number == 0 && err == nil {
			continue // an empty line
		}
		if err == nil {
			if field, wrong := row.complete(); wrong != "" {
				err = &LineError{number, field, wrong}
			}
		}
		return row, number, err
	}
}

// blank is a line that says nothing itself.
func (r *Reader) blank() Row {
	d := r.options.Default
	return Row{Scope: d.Scope, Time: d.Time, Notice: d.Notice}
}

// nextObject reads a line of NDJSON into row. The number is 0 for an empty one.
func (r *Reader) nextObject(row *Row) (int, error) {
	n, err := r.lines.next()
	if err != nil {
		return 0, err
	}
	number := r.lines.behind.Line
	if n.long {
		return number, r.tooLong(number)
	}
	if len(bytes.TrimSpace(n.text)) == 0 {
		return 0, nil
	}
	object, err := ReadObject(n.text)
	var wrong *MemberError
	switch {
	case errors.As(err, &wrong):
		return number, &LineError{number, shorten(wrong.Member), wrong.Wrong}
	case err != nil:
		return number, &LineError{number, "", `it is no JSON object, such as {"address":"anna@example.org","scope":"newsletter","open":"granted"}`}
	}
	for _, name := range slices.Sorted(maps.Keys(object)) { // the same mistake gets the same answer
		if err := row.set(name, object[name]); err != nil {
			return number, &LineError{number, shorten(name), err.Error()}
		}
	}
	return number, nil
}

// nextRecord reads a record of CSV into row. The number is 0 for an empty line. An empty field
// says nothing.
func (r *Reader) nextRecord(row *Row) (int, error) {
	fields, number, err := r.record()
	if err != nil {
		return number, err
	}
	if len(fields) == 1 && fields[0] == "" {
		return 0, nil
	}
	if len(fields) != len(r.columns) {
		return number, &LineError{number, "", fmt.Sprintf("it has %d fields, the header %d", len(fields), len(r.columns))}
	}
	for i, value := range fields {
		name := r.columns[i]
		if name == "" || value == "" {
			continue
		}
		if !utf8.ValidString(value) {
			return number, &LineError{number, name, "it is not UTF-8"}
		}
		if err := row.set(name, value); err != nil {
			return number, &LineError{number, name, err.Error()}
		}
	}
	return number, nil
}

func (r *Reader) tooLong(number int) error {
	return &LineError{number, "", fmt.Sprintf("it has over %d bytes", MaxLine)}
}
