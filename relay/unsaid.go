package relay

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// What strangers bring about in the log, on average and at once: without a bound anybody could fill the disk with
// lines about what was refused. The metrics count all of it.
const (
	strangerLines = 10 // a second
	strangerBurst = 500
)

// unsaid bounds the lines about strangers, and counts those that were not written.
type unsaid struct {
	now func() time.Time

	mu      sync.Mutex
	room    float64 // lines that may be written now
	at      time.Time
	skipped int
}

func newUnsaid(now func() time.Time) *unsaid {
	return &unsaid{now: now, room: strangerBurst, at: now()}
}

// may reports whether a line may be written, and how many were not since the last one that was.
func (u *unsaid) may() (ok bool, skipped int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.now()
	u.room = min(strangerBurst, u.room+max(0, now.Sub(u.at).Seconds())*strangerLines)
	u.at = now
	if u.room < 1 {
		u.skipped++
		return false, 0
	}
	u.room--
	skipped, u.skipped = u.skipped, 0
	return true, skipped
}

// ofStranger writes a warning about what a peer did, unless it is one of too many about strangers.
func (j journal) ofStranger(c *conn, text string, attrs ...any) {
	j.bounded(c, slog.LevelWarn, text, attrs...)
}

func (j journal) bounded(c *conn, level slog.Level, text string, attrs ...any) {
	if j.unsaid != nil && c.stranger.Load() {
		ok, skipped := j.unsaid.may()
		if !ok {
			return
		}
		if skipped > 0 {
			attrs = append(attrs, "lines_left_out", skipped)
		}
	}
	j.Log(context.Background(), level, text, attrs...)
}
