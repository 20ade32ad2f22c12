package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// manager is the service manager that started the gateway, told by sd_notify(3) what the gateway is doing.
// Where there is none (no NOTIFY_SOCKET), it hears nothing.
type manager struct{ log *slog.Logger }

// tell sends states, such as "READY=1". That it does not arrive is logged and harms nothing here.
func (m manager) tell(states ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(states, "\n")); err != nil {
		m.log.Warn("the service manager cannot be told", "state", states[0], "err", err)
	}
}

// watch tells the manager three times in each of its WATCHDOG_USEC that the gateway is well, as long as
// alive says so in time, until ctx is done. A gateway that is not is ended and started anew by the manager.
func (m manager) watch(ctx context.Context, alive func(context.Context) error) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		m.log.Warn("the service manager's watchdog is not served", "err", err)
	}
	if limit <= 0 {
		return
	}
	tick := time.NewTicker(limit / 3)
	defer tick.Stop()
	for {
		asked, cancel := context.WithTimeout(ctx, limit/3)
		err := alive(asked)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			m.log.Error("the gateway is not well: unless that changes, the service manager's watchdog starts it anew", "err", err)
		default:
			m.tell(daemon.SdNotifyWatchdog)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
