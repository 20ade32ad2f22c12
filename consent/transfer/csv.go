package transfer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// A CSV record may run over several lines, since a quoted field may hold line ends. A quote that
// is never closed would so swallow the rest of a file; here it costs its own line alone: the
// lines behind it are given back and read as records of their own. The standard library's
// reader has no bound on a record, and no way back.

var errOpenQuote = errors.New("a quote that begins a field is not closed")

// splitRecord splits a record into its fields (RFC 4180), which are appended to fields. The error
// errOpenQuote says that the record may go on in the next line.
func splitRecord(text []byte, comma byte, fields []string) ([]string, error) {
	for {
		if len(text) == 0 || text[0] != '"' {
			field, rest, more := bytes.Cut(text, []byte{comma})
			if bytes.IndexByte(field, '"') >= 0 {
				return nil, errors.New("a quote inside a field that does not begin with one")
			}
			fields = append(fields, string(field))
			if !more {
				return fields, nil
			}
			text = rest
			continue
		}
		var field []byte
		text = text[1:]
		for {
			i := bytes.IndexByte(text, '"')
			if i < 0 {
				return nil, errOpenQuote
			}
			field = append(field, text[:i]...)
			if text = text[i+1:]; len(text) == 0 || text[0] != '"' {
				break
			}
			field, text = append(field, '"'), text[1:]
		}
		fields = append(fields, string(field))
		switch {
		case len(text) == 0:
			return fields, nil
		case text[0] != comma:
			return nil, errors.New("something stands behind a closing quote")
		}
		text = text[1:]
	}
}

// record reads the next record and the number of its first line. An error is io.EOF, a
// *LineError, or that of the file.
func (r *Reader) record() (fields []string, first int, err error) {
	n, err := r.lines.next()
	if err != nil {
		return nil, 0, err
	}
	first = r.lines.behind.Line
	if n.long {
		return nil, first, r.tooLong(first)
	}
	fields, err = splitRecord(n.text, r.comma, r.fields[:0])
	if err != errOpenQuote {
		if err != nil {
			return nil, first, &LineError{first, "", err.Error()}
		}
		r.fields = fields
		return fields, first, nil
	}
	whole, begun := bytes.Clone(n.text), []line{}
	for {
		n, err := r.lines.next()
		if err != nil && err != io.EOF {
			return nil, 0, err
		}
		if err == nil {
			n.text = bytes.Clone(n.text)
			begun = append(begun, n)
			whole = append(append(whole, '\n'), n.text...)
		}
		if err == io.EOF || n.long || len(whole) > MaxLine {
			r.lines.giveBack(begun)
			return nil, first, &LineError{first, "", errOpenQuote.Error()}
		}
		if bytes.Count(n.text, []byte{'"'})%2 == 0 {
			continue // it cannot end here
		}
		fields, err := splitRecord(whole, r.comma, r.fields[:0])
		if err != nil {
			r.lines.giveBack(begun)
			return nil, first, &LineError{first, "", err.Error()}
		}
		r.fields = fields
		return fields, first, nil
	}
}

// header reads the names of the columns and finds out what they mean: r.columns has the member of
// each, "" for those that are left out.
func (r *Reader) header(names map[string]string) error {
	n, err := r.lines.next()
	if err == io.EOF {
		return errors.New("the file is empty: a CSV file begins with the names of its columns")
	} else if err != nil {
		return err
	}
	if n.long {
		return r.tooLong(1)
	}
	r.comma = separator(n.text)
	fields, err := splitRecord(n.text, r.comma, nil)
	if err != nil {
		return &LineError{1, "", err.Error()}
	}
	others, leaveOthers := names["*"]
	leaveOthers = leaveOthers && others == ""
	var unknown []string
	named, meant := map[string]bool{}, map[string]bool{}
	for _, name := range fields {
		name = strings.TrimSpace(name)
		member, mapped := names[name]
		if !mapped {
			member = strings.ToLower(name)
			if !slices.Contains(members, member) {
				if member = ""; !leaveOthers {
					unknown = append(unknown, fmt.Sprintf("%q", shorten(name)))
				}
			}
		}
		if member != "" && meant[member] {
			return &LineError{1, member, "two columns mean this"}
		}
		named[name], meant[member] = true, true
		r.columns = append(r.columns, member)
	}
	if n := len(unknown); n > 10 { // it may be no list at all
		unknown = append(unknown[:10], fmt.Sprintf("and %d more", n-10))
	}
	if unknown != nil {
		return &LineError{1, "", fmt.Sprintf("unknown columns %s: a line has %s; map a column to one of them, or to nothing", strings.Join(unknown, ", "), settable)}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if name != "*" && !named[name] {
			return &LineError{1, "", fmt.Sprintf("there is no column %q to map", shorten(name))}
		}
	}
	if !meant["address"] && !meant["person"] {
		return &LineError{1, "address", "no column holds it: map one to it"}
	}
	return nil
}

// separator is what stands between the fields: a comma, or what spreadsheets write elsewhere.
func separator(header []byte) byte {
	best, most := byte(','), 0
	for _, c := range []byte(",;\t") {
		if n := bytes.Count(header, []byte{c}); n > most {
			best, most = c, n
		}
	}
	return best
}
