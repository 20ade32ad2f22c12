package logbook

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
)

// NewJSON returns slog's handler for JSON, but with durations as the one for text writes them ("4s"), and without what
// a terminal obeys: encoding/json leaves DEL and the control characters of U+0080 to U+009F as they are.
func NewJSON(w io.Writer, level slog.Leveler) slog.Handler {
	return slog.NewJSONHandler(harmless{w}, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			return slog.String(a.Key, a.Value.Duration().String())
		}
		return a
	}})
}

// harmless writes JSON, where such characters can stand within strings only.
type harmless struct{ io.Writer }

func (w harmless) Write(p []byte) (int, error) {
	i := control(p)
	if i < 0 {
		return w.Writer.Write(p)
	}
	var b bytes.Buffer
	for rest := p; ; i = control(rest) {
		if i < 0 {
			b.Write(rest)
			break
		}
		b.Write(rest[:i])
		c, n := rest[i], 1
		if c != 0x7f {
			c, n = rest[i+1], 2
		}
		fmt.Fprintf(&b, `\u%04x`, c)
		rest = rest[i+n:]
	}
	if _, err := w.Writer.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// control returns where the first of them is, -1 where there is none.
func control(p []byte) int {
	for i, c := range p {
		if c == 0x7f || c == 0xc2 && i+1 < len(p) && p[i+1] < 0xa0 {
			return i
		}
	}
	return -1
}
