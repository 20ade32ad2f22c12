// Package logbook is what stands before the handler that writes the gateway's log: it masks the addresses of people
// in everything that is logged, wherever a text came from, cuts what is long, counts the warnings and errors, and remembers the last
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
	message, changed := l.text(r.Message)
	if !changed {
		r.Attrs(func(a slog.Attr) bool {
			_, changed = l.attr(a)
			return !changed
		})
	}
	if !changed { // as most are
		return l.next.Handle(ctx, r)
	}
	masked := slog.NewRecord(r.Time, r.Level, message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		a, _ = l.attr(a)
		masked.AddAttrs(a)
		return true
	})
	return l.next.Handle(ctx, masked)
}

func (l *Logbook) WithAttrs(attrs []slog.Attr) slog.Handler {
	attrs = slices.Clone(attrs)
	for i := range attrs {
		attrs[i], _ = l.attr(attrs[i])
	}
	return &Logbook{l.next.WithAttrs(attrs), l.opts, l.book}
}

func (l *Logbook) WithGroup(name string) slog.Handler {
	return &Logbook{l.next.WithGroup(name), l.opts, l.book}
}

// maxText is how many bytes of a text are logged: a stranger may have written all of a megabyte.
const maxText = 4 << 10

// text returns s as it is logged, and whether that may be another.
func (l *Logbook) text(s string) (string, bool) {
	changed := !l.opts.FullAddresses && mayHold(s)
	if changed {
		s = Mask(s)
	}
	if len(s) > maxText { // masked before, since a half address has no look
		end := maxText
		for end > maxText-utf8.UTFMax && !utf8.RuneStart(s[end]) {
			end--
		}
		return s[:end] + "…", true
	}
	return s, changed
}

// attr returns a with its value as it is logged, and whether that may be another.
func (l *Logbook) attr(a slog.Attr) (slog.Attr, bool) {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		if a.Key == "stack" { // paths of modules look like addresses, and values are not in it
			return a, false
		}
		if s, changed := l.text(v.String()); changed {
			return slog.String(a.Key, s), true
		}
	case slog.KindGroup:
		of := v.Group()
		for i := range of {
			b, changed := l.attr(of[i])
			if !changed {
				continue
			}
			group := slices.Clone(of)
			group[i] = b
			for j := i + 1; j < len(group); j++ {
				group[j], _ = l.attr(group[j])
			}
			return slog.Attr{Key: a.Key, Value: slog.GroupValue(group...)}, true
		}
	case slog.KindAny:
		if v, changed := l.any(v.Any()); changed {
			return slog.Any(a.Key, v), true
		}
	}
	return a, false
}

func (l *Logbook) any(v any) (any, bool) {
	text := ""
	switch v := v.(type) {
	case nil:
		return nil, false
	case error:
		text = v.Error()
	case []string:
		all, any := make([]string, len(v)), false
		for i := range v {
			s, changed := l.text(v[i])
			all[i], any = s, any || changed
		}
		return all, any
	default:
		if of := reflect.ValueOf(v); of.Kind() == reflect.String {
			text = of.String()
		} else {
			text = fmt.Sprint(v)
		}
	}
	if s, changed := l.text(text); changed {
		return s, true
	}
	return v, false
}

// Line is a warning or an error that was logged, without what tells of a person.
// All its words are the program's own: what a peer, a next hop or a library said stands in the log alone.
type Line struct {
	Level slog.Level
	Text  string // the message
	Kind  string // of cause: an answer's codes, or words of causes; "" if none is known
	ID    string // under which the log has the rest, "" if none
	Last  time.Time
	Count int // of lines with this text and kind since the start
}

// book keeps the lines that were seen last, one for each text and kind.
type book struct {
	mu    sync.Mutex
	lines []Line // the oldest first
}

const maxLines = 30

func (b *book) note(r slog.Record) {
	line := Line{Level: r.Level, Text: own(r.Message), Last: r.Time, Count: 1}
	hop := false
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "id":
			line.ID = a.Value.String()
		case "err", "error", "answer", "last":
			line.Kind = kind(a.Value.String())
		case "smarthost":
			hop = true
		}
		return true
	})
	if hop {
		line.Kind = strings.TrimSpace("smarthost " + line.Kind)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.lines, func(l Line) bool { return l.Text == line.Text && l.Kind == line.Kind })
	switch {
	case i >= 0:
		line.Count += b.lines[i].Count
		b.lines = slices.Delete(b.lines, i, i+1)
	case len(b.lines) >= maxLines:
		b.lines = slices.Delete(b.lines, 0, 1)
	}
	b.lines = append(b.lines, line)
}

// Last returns up to n lines, the newest first.
func (l *Logbook) Last(n int) []Line {
	l.book.mu.Lock()
	defer l.book.mu.Unlock()
	lines := slices.Clone(l.book.lines)
	slices.Reverse(lines)
	return lines[:min(n, len(lines))]
}
