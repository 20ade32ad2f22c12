package logbook

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

type named string
type pair struct{ A, B string }

// No address comes through, whatever a value is and wherever it stands; with FullAddresses all do.
func TestHandler(t *testing.T) {
	write := func(full bool) (string, map[slog.Level]int) {
		var b bytes.Buffer
		counted := map[slog.Level]int{}
		log := slog.New(New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}), Options{FullAddresses: full, Count: func(l slog.Level) { counted[l]++ }}))
		log.Debug("jane@example.org", "to", []string{"jane@example.org"}, "err", fmt.Errorf("x: %w", errors.New("<jane@example.org>")))
		log.With("by", "jane@example.org").WithGroup("g").Info("x", slog.Group("in", "a", "jane@example.org", slog.Group("in", "b", named("jane@example.org"))))
		log.Warn("x", "pair", pair{"jane@example.org", ""}, "none", nil, "n", 7, "lazy", lazy{})
		log.Error("x", "stack", "/mod/smtp@v0.25.1/conn.go", "at", time.Unix(0, 0).UTC())
		return b.String(), counted
	}
	got, counted := write(false)
	if strings.Contains(got, "jane") || strings.Count(got, "•••@example.org") != 8 || !strings.Contains(got, "smtp@v0.25.1") || !strings.Contains(got, "n=7") {
		t.Errorf("masked:\n%s", got)
	}
	if counted[slog.LevelWarn] != 1 || counted[slog.LevelError] != 1 || len(counted) != 2 {
		t.Errorf("counted %v", counted)
	}
	if got, _ = write(true); strings.Count(got, "jane@example.org") != 8 || strings.Contains(got, "•") {
		t.Errorf("in full:\n%s", got)
	}
}

// Of a long text the beginning is logged, whatever holds it; an address at the cut is masked all the same.
func TestLongTexts(t *testing.T) {
	long := "x" + strings.Repeat("é", maxText/2-5) + " jane.doe@example.org"
	for full, end := range map[bool]string{false: "é j••…", true: "é jane.doe…"} {
		got := map[string]string{}
		log := slog.New(New(slog.NewTextHandler(discard{}, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			got[a.Key] = a.Value.String()
			return a
		}}), Options{FullAddresses: full, Count: func(slog.Level) {}}))
		log.With("with", long).Info(long, "string", long, "err", errors.New(long), "named", named(long), slog.Group("group", "in", long), "stack", long, "list", []string{"a", long}, "short", "é")
		for _, key := range []string{"with", "msg", "string", "err", "named", "in"} {
			if s := got[key]; len(s) > maxText+len("…") || !strings.HasSuffix(s, end) || !utf8.ValidString(s) {
				t.Errorf("%s: %d bytes, … %q", key, len(s), s[max(0, len(s)-30):])
			}
		}
		if got["stack"] != long || got["short"] != "é" || !strings.HasSuffix(got["list"], end+"]") {
			t.Errorf("%d bytes of the stack, %q, %d of the list", len(got["stack"]), got["short"], len(got["list"]))
		}
	}
}

type lazy struct{}

func (lazy) LogValue() slog.Value { return slog.StringValue("jane@example.org") }

// The last lines are kept, one for each text and kind of cause, without a word from outside even where the log has it.
func TestLast(t *testing.T) {
	book := New(slog.DiscardHandler, Options{FullAddresses: true, Count: func(slog.Level) {}})
	// slog.DiscardHandler is enabled for nothing; what is logged is asked of the next handler.
	if lines := book.Last(3); len(lines) != 0 {
		t.Fatalf("%+v", lines)
	}
	var b bytes.Buffer
	book = New(slog.NewTextHandler(&b, nil), Options{FullAddresses: true, Count: func(slog.Level) {}})
	log := slog.New(book)
	log.Info("not kept")
	log.Warn("one", "id", "x1", "answer", "550 <jane@example.org> "+strings.Repeat("é", 200))
	log.Error("two", "err", errors.New("connection refused"))
	log.With("id", "y").Warn("one", "id", "x2")
	lines := book.Last(5)
	if len(lines) != 3 || lines[0].Text != "one" || lines[0].Count != 1 || lines[0].ID != "x2" || lines[2].Kind != "550" || lines[1].Text != "two" || lines[1].Kind != "connection refused" || lines[1].Level != slog.LevelError {
		t.Errorf("%+v", lines)
	}
	log.Warn("one", "answer", "550 <jane@example.org> "+strings.Repeat("é", 200))
	if l := book.Last(1)[0]; l.Kind != "550" || l.Count != 2 {
		t.Errorf("%+v", l)
	}
	for i := range 100 {
		log.Warn(fmt.Sprint("text ", i))
	}
	if lines = book.Last(1000); len(lines) != maxLines || lines[0].Text != "text 99" {
		t.Errorf("%d lines, the first %+v", len(lines), lines[0])
	}
}

func BenchmarkHandle(b *testing.B) {
	for name, log := range map[string]*slog.Logger{
		"plain":   slog.New(slog.NewTextHandler(discard{}, nil)),
		"masking": slog.New(New(slog.NewTextHandler(discard{}, nil), Options{Count: func(slog.Level) {}})),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				log.Info("message forwarded", "id", "01m6dv7580cfy90t-001", "from", "n•••@example.org", "to", "j•••@example.com", "scope", "default", "class", "marketing", "bytes", 51234,
					"mail", "send", "mail_reason", "default", "open", false, "open_reason", "default", slog.Group("findings", "inserted", 2, "removed", 1), "smarthost", "127.0.0.1:25", "code", 250, "reply", "OK: queued")
			}
		})
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
