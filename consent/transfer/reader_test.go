package transfer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// read returns what a file holds, a text for each line that holds something.
func read(t *testing.T, file string, o ReadOptions) []string {
	t.Helper()
	r, err := NewReader(strings.NewReader(file), o)
	if err != nil {
		return []string{"no file: " + err.Error()}
	}
	return drain(t, r)
}

func drain(t *testing.T, r *Reader) []string {
	t.Helper()
	var got []string
	for {
		row, line, err := r.Next()
		if err == io.EOF {
			return got
		}
		if err != nil {
			if !errors.As(err, new(*LineError)) {
				t.Fatal(err)
			}
			got = append(got, err.Error())
			continue
		}
		text := fmt.Sprintf("%d %s %s %s/%s/%s", line, row.Address, row.Scope, row.Mail, row.Open, row.Click)
		if !row.Time.IsZero() {
			text += " " + row.Time.Format(time.RFC3339)
		}
		if row.Source != "" {
			text += " by " + string(row.Source)
		}
		if row.Notice != "" {
			text += " under " + row.Notice
		}
		got = append(got, text)
	}
}

func TestReadNDJSON(t *testing.T) {
	long := strings.Repeat("x", MaxLine)
	file := "\xef\xbb\xbf" + strings.Join([]string{
		`{"address":"Anna@Example.org","scope":"News","open":"granted","click":"denied","time":"2026-03-01T10:00:00+01:00","notice":"2026-03","source":"page"}`,
		"",
		"  \r",
		`{"address":"ben@example.org","mail":"unsubscribed"}` + "\r",
		`{"address":"ben@example.org","mail":"gone"}`,
		`{"address":"ben@example.org","opens":"granted"}`,
		`{"address":"ben@example.org","open":"granted","open":"denied"}`,
		`{"address":"ben@example.org","open":null}`,
		`{"address":"ben","open":"granted"}`,
		`{"open":"granted"}`,
		`{"address":"ben@example.org"}`,
		`{"address":"ben@example.org","open":"granted"} {}`,
		`nonsense`,
		"{\"address\":\"b\xff@example.org\",\"open\":\"granted\"}",
		`{"address":"ben@example.org","open":"granted","notice":"` + long + `"}`,
		`{"address":"ben@example.org","open":"granted","source":"guess"}`,
		`{"address":"ben@example.org","open":"granted","time":"01.03.2026"}`,
		`{"address":"ben@example.org","open":"granted","time":"1969-03-01"}`,
		`{"person":"00ff","scope":"news","open":"granted"}`,
		`{"\u001b[2J` + strings.Repeat("x", 60) + `":"granted"}`,
		`{"address":"cleo@example.org","scope":"*","click":"unset","time":"2026-03-01"}`,
	}, "\n")
	want := []string{
		"1 anna@example.org news /granted/denied 2026-03-01T09:00:00Z by page under 2026-03",
		"4 ben@example.org letter unsubscribed//",
		`line 5: mail: mail is subscribed or unsubscribed, not "gone"`,
		"line 6: opens: there is no such member: a line has address, scope, mail, open, click, time, source and notice",
		"line 7: open: the member comes twice",
		"line 8: open: the member must be a string",
		"line 9: address: not a mail address: it has no local part, no @ or no domain",
		"line 10: address: is missing",
		"line 11: it names nothing to set: mail, open or click",
		`line 12: it is no JSON object, such as {"address":"anna@example.org","scope":"newsletter","open":"granted"}`,
		`line 13: it is no JSON object, such as {"address":"anna@example.org","scope":"newsletter","open":"granted"}`,
		`line 14: it is no JSON object, such as {"address":"anna@example.org","scope":"newsletter","open":"granted"}`,
		"line 15: it has over 65536 bytes",
		`line 16: source: a source is import, api, page, one-click, mailto or cli, not "guess"`,
		`line 17: time: a time is such as 2026-03-01T09:30:00Z or 2026-03-01, not "01.03.2026"`,
		"line 18: time: the time is before 1970",
		"line 19: person: this was exported without addresses, so nobody knows whose it is: export it with them",
		"line 20: ?[2J" + strings.Repeat("x", 36) + "…: there is no such member: a line has address, scope, mail, open, click, time, source and notice",
		"21 cleo@example.org * //unset 2026-03-01T00:00:00Z",
	}
	if diff := cmp.Diff(want, read(t, file, ReadOptions{Format: NDJSON, Default: Row{Scope: "letter"}})); diff != "" {
		t.Error(diff)
	}
}

func TestDefaults(t *testing.T) {
	at := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	d := Row{Scope: "letter", Time: at, Notice: "n1"}
	got := read(t, `{"address":"a@example.org","open":"granted"}
{"address":"a@example.org","open":"granted","scope":"news","time":"2026-03-01","notice":"n2"}`, ReadOptions{Format: NDJSON, Default: d})
	want := []string{
		"1 a@example.org letter /granted/ 2026-02-01T00:00:00Z under n1",
		"2 a@example.org news /granted/ 2026-03-01T00:00:00Z under n2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := read(t, `{"address":"a@example.org","open":"granted"}`, ReadOptions{Format: NDJSON}); got[0] != "line 1: scope: is missing, and no default was given" {
		t.Error(got)
	}
}

func TestReadCSV(t *testing.T) {
	for _, c := range []struct {
		name, columns, file string
		want                []string
	}{
		{"plain", "", "address,open,click\na@example.org,granted,denied\nb@example.org,,unset\n",
			[]string{"2 a@example.org news /granted/denied", "3 b@example.org news //unset"}},
		{"mark, CRLF, quotes, upper case", "", "\xef\xbb\xbfAddress,\"Open\"\r\n\"a@example.org\",\"granted\"\r\n\r\n\"\"\"x,y\"\"@example.org\",denied",
			[]string{"2 a@example.org news /granted/", `4 "x,y"@example.org news /denied/`}},
		{"semicolons", "", "address;open;notice\na@example.org;granted;1,5", []string{"2 a@example.org news /granted/ under 1,5"}},
		{"tabs", "", "address\topen\na@example.org\tgranted\n", []string{"2 a@example.org news /granted/"}},
		{"columns", "Email Address=address,Tracking=open,*=", "Email Address,Name,Tracking,address\na@example.org,\"A,\nB\",granted,\nb@example.org,B,denied,\n",
			[]string{"no file: line 1: address: two columns mean this"}},
		{"columns mapped", "Email Address=address,Tracking=open,*=", "Email Address,Name,Tracking\na@example.org,\"A,\nB\",granted\nb@example.org,B,denied\n",
			[]string{"2 a@example.org news /granted/", "4 b@example.org news /denied/"}},
		{"a column left out", "address=,Email=address", "address,Email,open\nHigh Street,a@example.org,granted\n", []string{"2 a@example.org news /granted/"}},
		{"unknown columns", "", "address,open,Name,Phone\n", []string{`no file: line 1: unknown columns "Name", "Phone": a line has address, scope, mail, open, click, time, source and notice; map a column to one of them, or to nothing`}},
		{"nothing to map", "Mail=address", "address,open\n", []string{`no file: line 1: there is no column "Mail" to map`}},
		{"no address", "", "open,click\n", []string{"no file: line 1: address: no column holds it: map one to it"}},
		{"twice", "", "address,open,open\n", []string{"no file: line 1: open: two columns mean this"}},
		{"empty", "", "", []string{"no file: the file is empty: a CSV file begins with the names of its columns"}},
		{"UTF-16", "", "\xff\xfea\x00", []string{"no file: the file is UTF-16: save it as UTF-8"}},
		{"bad lines", "", "address,open\na@example.org\na@example.org,granted,x\na@example.org,yes\na\"b@example.org,granted\n\"a\"b,granted\n\xff@example.org,granted\n,granted\nb@example.org,granted\n",
			[]string{
				"line 2: it has 1 fields, the header 2",
				"line 3: it has 3 fields, the header 2",
				`line 4: open: open is granted, denied or unset, not "yes"`,
				"line 5: a quote inside a field that does not begin with one",
				"line 6: something stands behind a closing quote",
				"line 7: address: it is not UTF-8",
				"line 8: address: is missing",
				"9 b@example.org news /granted/",
			}},
		{"a quote that is not closed", "", "address,open\n\"a@example.org,granted\nb@example.org,granted\nc@example.org,denied\n",
			[]string{"line 2: a quote that begins a field is not closed", "3 b@example.org news /granted/", "4 c@example.org news /denied/"}},
		{"two quotes that are not closed", "", "address,open\n\"a@example.org,granted\nb@example.org,granted\n\"c@example.org,denied\nd@example.org,granted\n",
			[]string{"line 2: something stands behind a closing quote", "3 b@example.org news /granted/", "line 4: a quote that begins a field is not closed", "5 d@example.org news /granted/"}},
		{"a quote open for long", "", "address,open\n\"a@example.org,granted\n" + strings.Repeat("b@example.org,granted\n", 4000) + "c@example.org,denied",
			append(append([]string{"line 2: a quote that begins a field is not closed"}, numberedLines(3, 4000)...), "4003 c@example.org news /denied/")},
		{"a long line in it", "", "address,open\n\"a@example.org,granted\nb@example.org,granted\n" + strings.Repeat("x", MaxLine+1) + "\nc@example.org,denied",
			[]string{"line 2: a quote that begins a field is not closed", "3 b@example.org news /granted/", "line 4: it has over 65536 bytes", "5 c@example.org news /denied/"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := ReadOptions{Format: CSV, Default: Row{Scope: "news"}}
			if c.columns != "" {
				var err error
				if o.Columns, err = ParseColumns(c.columns); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(c.want, read(t, c.file, o)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func numberedLines(from, n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf("%d b@example.org news /granted/", from+i)
	}
	return lines
}

func TestParseColumns(t *testing.T) {
	for in, want := range map[string]string{
		"Email":             `"Email" is not COLUMN=MEMBER`,
		"=address":          `column "" is named twice, or not at all`,
		"a=open,a=click":    `column "a" is named twice, or not at all`,
		"a=colour":          `there is no member "colour": a line has address, scope, mail, open, click, time, source and notice`,
		"a=person":          `there is no member "person": a line has address, scope, mail, open, click, time, source and notice`,
		"*=open":            `* stands for all other columns, which can only be left out: *=`,
		"x=y=address, Tel=": "",
	} {
		columns, err := ParseColumns(in)
		if got := fmt.Sprint(err); want != "" && got != want {
			t.Errorf("%q: %s", in, got)
		} else if want == "" && (columns["x=y"] != "address" || len(columns) != 2) {
			t.Errorf("%q: %v", in, columns)
		}
	}
}

// A reader that resumes at any place reads what the first one would have.
func TestResume(t *testing.T) {
	csv := "\xef\xbb\xbfaddress,open\r\na@example.org,granted\r\n\"b@example.org\",\"den\nied\"\r\n\"c@example.org,granted\r\nd@example.org,denied\r\n\r\ne@example.org,unset\r\n" +
		strings.Repeat("x", MaxLine+9) + "\nf@example.org,granted"
	ndjson := "\xef\xbb\xbf{\"address\":\"a@example.org\",\"open\":\"granted\"}\r\nx\n\n{\"address\":\"b@example.org\",\"open\":\"granted\"}\n" + strings.Repeat("x", MaxLine+9) + "\n{}"
	for format, file := range map[Format]string{CSV: csv, NDJSON: ndjson} {
		o := ReadOptions{Format: format, Default: Row{Scope: "news"}}
		all := read(t, file, o)
		for n := range all {
			r, err := NewReader(strings.NewReader(file), o)
			if err != nil {
				t.Fatal(err)
			}
			for range n {
				r.Next()
			}
			at := r.Position()
			src := bytes.NewReader([]byte(file))
			src.Seek(at.Offset, io.SeekStart)
			r, _ = NewReader(strings.NewReader(file), o)
			r.Resume(src, at)
			if diff := cmp.Diff(all[n:], drain(t, r)); n > 0 && diff != "" {
				t.Errorf("%s, behind %d lines, at %+v: %s", format, n, at, diff)
			}
		}
	}
}

// Whatever a file holds, reading ends, errors are about lines, line numbers rise, and the last
// position is the end of the file.
func FuzzReader(f *testing.F) {
	f.Add([]byte("address,open\n\"a@example.org,granted\n\"b\",\"c\n\"\n"), true)
	f.Add([]byte("{\"address\":\"a@example.org\",\"open\":\"granted\"}\n\r\n"), false)
	f.Fuzz(func(t *testing.T, file []byte, isCSV bool) {
		o := ReadOptions{Format: NDJSON, Default: Row{Scope: "news"}}
		if isCSV {
			o.Format = CSV
		}
		r, err := NewReader(bytes.NewReader(file), o)
		if err != nil {
			return
		}
		last := 0
		for {
			_, line, err := r.Next()
			if err == io.EOF {
				break
			}
			if wrong := (*LineError)(nil); errors.As(err, &wrong) {
				line = wrong.Line
			} else if err != nil {
				t.Fatal(err)
			}
			if line <= last {
				t.Fatalf("line %d behind line %d", line, last)
			}
			last = line
		}
		if at := r.Position(); at.Offset != int64(len(file)) {
			t.Fatalf("it ends at %d of %d", at.Offset, len(file))
		}
	})
}

// endless is a file of one byte, over and over.
type endless struct {
	b    byte
	left int
}

func (e *endless) Read(b []byte) (int, error) {
	n := min(len(b), e.left)
	if n == 0 {
		return 0, io.EOF
	}
	for i := range n {
		b[i] = e.b
	}
	e.left -= n
	return n, nil
}

// What no list is costs its own lines, and never more memory or time than the file is long.
func TestHostileFiles(t *testing.T) {
	const good = "z@example.org,granted\n"
	utf16 := func(s string) string {
		var b strings.Builder
		for _, c := range []byte(s) {
			b.Write([]byte{c, 0})
		}
		return b.String()
	}
	const huge = 100 << 20
	for _, c := range []struct {
		name string
		file io.Reader
		want []string // of the lines; the good one at the end comes through wherever the header was read
	}{
		{"100 MB in a line", io.MultiReader(strings.NewReader("address,open\n"), &endless{'x', huge}, strings.NewReader("\n"+good)),
			[]string{"line 2: it has over 65536 bytes", "3 z@example.org news /granted/"}},
		{"100 MB in a quoted line", io.MultiReader(strings.NewReader("address,open\n\""), &endless{'x', huge}, strings.NewReader("\n"+good)),
			[]string{"line 2: it has over 65536 bytes", "3 z@example.org news /granted/"}},
		{"100 MB of quotes", io.MultiReader(strings.NewReader("address,open\n"), &endless{'"', huge}, strings.NewReader("\n"+good)),
			[]string{"line 2: it has over 65536 bytes", "3 z@example.org news /granted/"}},
		{"10 MB of empty lines", io.MultiReader(strings.NewReader("address,open\n"), &endless{'\n', 10 << 20}, strings.NewReader(good)),
			[]string{fmt.Sprintf("%d z@example.org news /granted/", 10<<20+2)}},
		{"100 MB in the header", io.MultiReader(&endless{'x', huge}, strings.NewReader("\n"+good)),
			[]string{"no file: line 1: it has over 65536 bytes"}},
		{"60,000 columns", io.MultiReader(&endless{',', 60 << 10}, strings.NewReader("\n"+good)),
			[]string{"no file: line 1: unknown columns"}},
		{"NUL", strings.NewReader("address,open\na\x00@example.org,granted\nb@example.org,gran\x00ted\n\x00\n" + good),
			[]string{"line 2: address: not a mail address: control character in it", `line 3: open: open is granted, denied or unset, not "gran\x00ted"`,
				"line 4: it has 1 fields, the header 2", "5 z@example.org news /granted/"}},
		{"UTF-16 without a mark", strings.NewReader(utf16("address,open\na@example.org,granted\n")),
			[]string{"no file: line 1: unknown columns"}},
		{"UTF-16, big end first", strings.NewReader("\xfe\xff\x00a"), []string{"no file: the file is UTF-16: save it as UTF-8"}},
		{"two marks", strings.NewReader("\xef\xbb\xbf\xef\xbb\xbfaddress,open\n" + good), []string{"no file: line 1: unknown columns"}},
		{"a spreadsheet", strings.NewReader("PK\x03\x04\x14\x00\x08\n" + good), []string{"no file: line 1: unknown columns"}},
		{"a formula", strings.NewReader("address,open\n=1+1,granted\n" + good), []string{"line 2: address: not a mail address", "3 z@example.org news /granted/"}},
		{"old line ends", strings.NewReader("address,open\ra@example.org,granted\r"), []string{"no file: line 1: unknown columns"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r, err := NewReader(c.file, ReadOptions{Format: CSV, Default: Row{Scope: "news"}})
			got := []string{fmt.Sprintf("no file: %v", err)}
			if err == nil {
				got = drain(t, r)
			}
			runtime.ReadMemStats(&after)
			if d := after.TotalAlloc - before.TotalAlloc; d > 32<<20 {
				t.Errorf("%d bytes were allocated", d)
			}
			if len(got) != len(c.want) {
				t.Fatalf("got %.300q", got)
			}
			for i, want := range c.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("got %.300q, want %q", got[i], want)
				}
			}
			for _, line := range got {
				if len(line) > 5000 {
					t.Errorf("a message of %d bytes", len(line))
				}
			}
		})
	}
}

// A file in which every line begins a quote takes no more than a file of its length should: what is
// read ahead in search of the end is bounded.
func TestQuotesInEveryLine(t *testing.T) {
	for _, line := range []string{"\"\n", "\"x\n", "\"x\"\"\n", "a,\"\n", "\"\"\"\n", "\"x\"y\n", "\"a\"\",\"b\n"} {
		file := "address,open\n" + strings.Repeat(line+"x,y\n", 30_000)
		began := time.Now()
		r, err := NewReader(strings.NewReader(file), ReadOptions{Format: CSV, Default: Row{Scope: "news"}})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; ; n++ {
			if _, _, err := r.Next(); err == io.EOF {
				break
			}
		}
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("%q, 60,000 lines: %v for %d errors", line, d, n)
		}
	}
}
