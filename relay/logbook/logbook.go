// Package logbook is what stands before the handler that writes the gateway's log: it masks the addresses of people
// in everything that is logged, wherever a text came from, counts the warnings and errors, and remembers the last
// ones for the status page.
//
// Masking by what a text looks like is a net below the rest of the gateway, which masks the addresses that it knows
// and does not log what might hold one.
package logbook

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Options say what a logbook does beside handing on.
type Options struct {
	FullAddresses bool             // nothing is masked in the log
	Count         func(slog.Level) // is told of each record of level Warn and above
}

// Logbook is a slog.Handler before another one.
type Logbook struct {
	next slog.Handler
	opts Options
	book *book
}

// New returns a handler before next.
func New(next slog.Handler, opts Options) *Logbook {
	return &Logbook{next: next, opts: opts, book: &book{}}
}

func (l *Logbook) Enabled(ctx context.Context, level slog.Level) bool {
	return l.next.Enabled(ctx, level)
}

func (l *Logbook) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		l.opts.Count(r.Level)
		l.book.note(r)
	}
	if l.opts.FullAddresses {
		return l.next.Handle(ctx, r)
	}
	masked := slog.NewRecord(r.Time, r.Level, Mask(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		masked.AddAttrs(mask(a))
		return true
	})
	return l.next.Handle(ctx, masked)
}

func (l *Logbook) WithAttrs(attrs []slog.Attr) slog.Handler {
	if !l.opts.FullAddresses {
		attrs = slices.Clone(attrs)
		for i := range attrs {
			attrs[i] = mask(attrs[i])
		}
	}
	return &Logbook{l.next.WithAttrs(attrs), l.opts, l.book}
}

func (l *Logbook) WithGroup(name string) slog.Handler {
	return &Logbook{l.next.WithGroup(name), l.opts, l.book}
}

// mask returns a with the addresses in its value masked.
func mask(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		if a.Key == "stack" { // paths of modules look like addresses, and values are not in it
			return a
		}
		return slog.String(a.Key, Mask(v.String()))
	case slog.KindGroup:
		group := slices.Clone(v.Group())
		for i := range group {
			group[i] = mask(group[i])
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(group...)}
	case slog.KindAny:
		return slog.Any(a.Key, maskAny(v.Any()))
	}
	return slog.Attr{Key: a.Key, Value: v}
}

func maskAny(v any) any {
	switch v := v.(type) {
	case nil:
		return nil
	case error:
		return Mask(v.Error())
	case []string:
		masked := make([]string, len(v))
		for i := range v {
			masked[i] = Mask(v[i])
		}
		return masked
	}
	if reflect.TypeOf(v).Kind() == reflect.String {
		return Mask(reflect.ValueOf(v).String())
	}
	if text := fmt.Sprint(v); mayHold(text) {
		return Mask(text)
	}
	return v
}

// inText finds what looks like an address: with its @ as it is, or encoded as in URLs (%40), in quoted-printable or
// VERP (=40), and in xtext (+40, RFC 3461 §4).
var inText = regexp.MustCompile(`(?i)(?:"(?:[^"\\]|\\.)*"|[^\s<>()"',:;\[\]]+?)(?:@(\[[^\]\s]*\]|[^\s<>()"',:;@]+)|[%=+]40([a-z0-9-]+(?:\.[a-z0-9-]+)+))`)

// mayHold is a quick no.
func mayHold(s string) bool { return strings.Contains(s, "@") || strings.Contains(s, "40") }

// Mask returns s with what looks like an address masked: its first character and its domain stay. Masked again it
// is the same.
func Mask(s string) string {
	if !mayHold(s) {
		return s
	}
	return inText.ReplaceAllStringFunc(s, func(found string) string {
		_, n := utf8.DecodeRuneInString(found)
		parts := inText.FindStringSubmatch(found)
		return found[:n] + "•••@" + parts[1] + parts[2]
	})
}

// Line is a warning or an error that was logged, without what tells of a person.
type Line struct {
	Level slog.Level
	Text  string // the message, which is the program's own
	Cause string // the error or the answer, masked
	ID    string // under which the log has the rest, "" if none
	Last  time.Time
	Count int // of lines with this text since the start
}

// book keeps the lines that were seen last, one for each text.
type book struct {
	mu    sync.Mutex
	lines []Line // the oldest first
}

const (
	maxLines = 30
	maxCause = 160 // bytes
)

func (b *book) note(r slog.Record) {
	line := Line{Level: r.Level, Text: Mask(r.Message), Last: r.Time, Count: 1}
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "id":
			line.ID = a.Value.String()
		case "err", "error", "answer", "last":
			line.Cause = short(Mask(a.Value.String()))
		}
		return true
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.lines, func(l Line) bool { return l.Text == line.Text })
	switch {
	case i >= 0:
		line.Count += b.lines[i].Count
		b.lines = slices.Delete(b.lines, i, i+1)
	case len(b.lines) >= maxLines:
		b.lines = slices.Delete(b.lines, 0, 1)
	}
	b.lines = append(b.lines, line)
}

// short keeps the beginning of s.
func short(s string) string {
	if len(s) > maxCause {
		s = strings.ToValidUTF8(s[:maxCause], "") + "…"
	}
	return s
}

// Last returns up to n lines, the newest first.
func (l *Logbook) Last(n int) []Line {
	l.book.mu.Lock()
	defer l.book.mu.Unlock()
	lines := slices.Clone(l.book.lines)
	slices.Reverse(lines)
	return lines[:min(n, len(lines))]
}
