package metrics

import "log/slog"

// Logged counts a line of the log.
func (m *Metrics) Logged(level slog.Level) {
	switch {
	case level >= slog.LevelError:
		m.logged[1].Inc()
	case level >= slog.LevelWarn:
		m.logged[0].Inc()
	}
}

// Reloaded says whether the configuration was taken over when it was last read.
func (m *Metrics) Reloaded(ok bool) { m.reloaded.Set(float64(number(ok))) }

// RestartNeeded says whether the file that was read holds changes that only a restart puts in force.
func (m *Metrics) RestartNeeded(is bool) { m.restart.Set(float64(number(is))) }
