package main

import (
	"context"

	"github.com/consentgate/consentgate/cmd/consentgate/demo"
)

type demoCmd struct {
	Once   bool   `help:"End after the first round: exit status 0, or 1 if a copy is not what its consent calls for."`
	Listen string `default:"127.0.0.1:0" placeholder:"HOST:PORT" help:"Where the page is. Without it: a free port of the loopback interface."`
}

func (demoCmd) Help() string {
	return `Needs nothing: an embedded store, an embedded smarthost that keeps what it gets, and the gateway between. It sends a newsletter to five people with different consents, prints what changed for each, and stays up with a page that shows the copies beside the original until Ctrl-C. No mail leaves this machine.

Example:

    consentgate demo --once`
}

func (d demoCmd) Run(ctx context.Context, std streams) error {
	return demo.Run(untilSignal(ctx), demo.Options{Once: d.Once, Out: std.out, Listen: d.Listen})
}
