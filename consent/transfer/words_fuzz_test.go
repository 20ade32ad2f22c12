package transfer

import (
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzParseColumns: columns that are taken mean members that there are.
func FuzzParseColumns(f *testing.F) {
	for _, s := range []string{"", "Email Address=address,Phone=,*=", "a=b", "a=address,a=scope", "*=address", "=", "a==address"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		columns, err := ParseColumns(s)
		if err != nil {
			return
		}
		for name, member := range columns {
			ok := member == ""
			for _, m := range members {
				ok = ok || m == member && m != "person"
			}
			if !ok || name == "" {
				t.Fatalf("%q: %q means %q", s, name, member)
			}
		}
	})
}

// FuzzParseTime: a time that is taken is behind 1970 and in UTC, and is taken again as the same.
func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"", "2026-03-01", "2026-03-01T09:30:00Z", "1969-12-31", "2026-03-01T09:30:00+02:00", "9999-12-31T23:59:59Z", "2026-02-30"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseTime(s)
		if err != nil {
			return
		}
		if again, err := ParseTime(got.Format(time.RFC3339Nano)); err != nil && got.Year() < 10000 || err == nil && !again.Equal(got) || got.Unix() <= 0 || got.Location() != time.UTC {
			t.Fatalf("%q is %v, and that %v, %v", s, got, again, err)
		}
	})
}

// FuzzReadObject holds what is read of an object against encoding/json.
func FuzzReadObject(f *testing.F) {
	for _, s := range []string{"", "{}", `{"a":"b"}`, `{"a":"b","a":"c"}`, `{"a":1}`, `{"a":"\ud800"}`, `[]`, `{"a":"b"}{}`, "{\"a\":\"\xff\"}", `{"a":{"b":"c"}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := ReadObject(text)
		var want map[string]string
		bad := json.Unmarshal(text, &want)
		if err == nil && (bad != nil || len(got) != len(want) || !utf8.Valid(text)) {
			t.Fatalf("%q is read as %q; by encoding/json %q, %v", text, got, want, bad)
		}
		for name, value := range got {
			if v, ok := want[name]; !ok || v != value {
				t.Fatalf("%q: %q is %q, by encoding/json %q", text, name, value, v)
			}
		}
	})
}
