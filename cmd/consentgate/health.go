package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

type healthCmd struct {
	configFlag
	Live bool `help:"Only whether the process can still work, or a restart helps."`
}

func (healthCmd) Help() string {
	return `Asks the running gateway at admin.listen, and prints what it says: whether it is ready, which takes a store that answers and room in the spool; with --live, whether it is alive. Exit status 0: it is; 1: it is not, or nobody answers. For a container, which has no other program to ask with.

Example:

    consentgate health --config /etc/consentgate/consentgate.toml`
}

// healthTimeout is above what the gateway gives its own checks.
const healthTimeout = 15 * time.Second

func (c healthCmd) Run(ctx context.Context, std streams) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	path := "/readyz"
	if c.Live {
		path = "/healthz"
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	// An address that stands for all of the machine's own, such as 0.0.0.0, is dialled as this machine.
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", cfg.Admin.Listen)
		},
	}
	req, err := http.NewRequestWithContext(ctx, "GET", "http://localhost"+path, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("no gateway answers on admin.listen: %w", err)
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("no whole answer on admin.listen: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		std.err.Write(said)
		return errReported
	}
	_, err = std.out.Write(said)
	return err
}
