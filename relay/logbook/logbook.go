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
	"slices"
	"strings"
	"sync"
	"time"
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
	clean := !mayHold(r.Message)
	if clean {
		r.Attrs(func(a slog.Attr) bool {
			_, changed := mask(a)
			clean = !changed
			return clean
		})
	}
	if clean { // as most are
		return l.next.Handle(ctx, r)
	}
	masked := slog.NewRecord(r.Time, r.Level, Mask(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		a, _ = mask(a)
		masked.AddAttrs(a)
		return true
	})
	return l.next.Handle(ctx, masked)
}

func (l *Logbook) WithAttrs(attrs []slog.Attr) slog.Handler {
	if !l.opts.FullAddresses {
		attrs = slices.Clone(attrs)
		for i := range attrs {
			attrs[i], _ = mask(attrs[i])
		}
	}
	return &Logbook{l.next.WithAttrs(attrs), l.opts, l.book}
}

func (l *Logbook) WithGroup(name string) slog.Handler {
	return &Logbook{l.next.WithGroup(name), l.opts, l.book}
}

// mask returns a with the addresses in its value masked, and whether there was any.
func mask(a slog.Attr) (slog.Attr, bool) {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		if a.Key == "stack" || !mayHold(v.String()) { // paths of modules look like addresses, and values are not in it
			return a, false
		}
		return slog.String(a.Key, Mask(v.String())), true
	case slog.KindGroup:
		of := v.Group()
		for i := range of {
			b, changed := mask(of[i])
			if !changed {
				continue
			}
			group := slices.Clone(of)
			group[i] = b
			for j := i + 1; j < len(group); j++ {
				group[j], _ = mask(group[j])
			}
			return slog.Attr{Key: a.Key, Value: slog.GroupValue(group...)}, true
		}
	case slog.KindAny:
		if masked, changed := maskAny(v.Any()); changed {
			return slog.Any(a.Key, masked), true
		}
	}
	return a, false
}

func maskAny(v any) (masked any, changed bool) {
	text := ""
	switch v := v.(type) {
	case nil:
		return nil, false
	case error:
		text = v.Error()
	case []string:
		if !mayHold(strings.Join(v, " ")) {
			return v, false
		}
		all := make([]string, len(v))
		for i := range v {
			all[i] = Mask(v[i])
		}
		return all, true
	default:
		if of := reflect.ValueOf(v); of.Kind() == reflect.String {
			text = of.String()
		} else {
			text = fmt.Sprint(v)
		}
	}
	if !mayHold(text) {
		return v, false
	}
	return Mask(text), true
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
