package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
	"github.com/consentgate/consentgate/relay"
	"github.com/consentgate/consentgate/relay/spool"
)

type queueCmd struct {
	List   queueListCmd   `cmd:"" help:"List what waits to be delivered, oldest first."`
	Show   queueShowCmd   `cmd:"" help:"Show one message that waits."`
	Retry  queueRetryCmd  `cmd:"" help:"Try a message, or all, at once."`
	Remove queueRemoveCmd `cmd:"" help:"Forget a message: it is not delivered, and nobody is told."`
}

func (queueCmd) Help() string {
	return `Speaks to the running gateway over its control socket, and opens the spool itself only where none runs.`
}

type queueListCmd struct {
	configFlag
	JSON bool `name:"json" help:"Print what the gateway answers."`
}

func (queueListCmd) Help() string {
	return `Example:

    consentgate queue list`
}

func (c queueListCmd) Run(ctx context.Context, std streams) error {
	body, err := c.ask(ctx, "GET", "")
	if err != nil || c.JSON {
		std.out.Write(body)
		return err
	}
	var all []relay.Waiting
	if err := json.Unmarshal(body, &all); err != nil {
		return errAnswer(err)
	}
	if len(all) == 0 {
		fmt.Fprintln(std.out, "nothing waits")
	}
	for i, w := range all {
		if i > 0 {
			fmt.Fprintln(std.out)
		}
		printWaiting(std, w)
	}
	return nil
}

type queueShowCmd struct {
	configFlag
	ID   string `arg:"" help:"The message's ID, as the sender and the log were told."`
	Raw  bool   `help:"Print the message itself, as it came in."`
	JSON bool   `name:"json" help:"Print what the gateway answers."`
}

func (queueShowCmd) Help() string {
	return `Example:

    consentgate queue show 01m6dv7580t8jkz5 --raw`
}

func (c queueShowCmd) Run(ctx context.Context, std streams) error {
	path := "/" + url.PathEscape(c.ID)
	if c.Raw {
		path += "/message"
	}
	body, err := c.ask(ctx, "GET", path)
	if err != nil || c.Raw || c.JSON {
		std.out.Write(body)
		return err
	}
	var w relay.Waiting
	if err := json.Unmarshal(body, &w); err != nil {
		return errAnswer(err)
	}
	printWaiting(std, w)
	return nil
}

type queueRetryCmd struct {
	configFlag
	ID  string `arg:"" optional:"" help:"The message's ID."`
	All bool   `help:"All that waits."`
}

func (queueRetryCmd) Help() string {
	return `Example:

    consentgate queue retry --all`
}

func (c queueRetryCmd) Run(ctx context.Context) error {
	if (c.ID == "") != c.All {
		return usageError{fmt.Errorf("name one message by its ID, or --all")}
	}
	path := "/retry"
	if !c.All {
		path = "/" + url.PathEscape(c.ID) + path
	}
	_, err := c.ask(ctx, "POST", path)
	return err
}

type queueRemoveCmd struct {
	configFlag
	ID string `arg:"" help:"The message's ID."`
}

func (queueRemoveCmd) Help() string {
	return `A copy that is on its way just then may still arrive.

Example:

    consentgate queue remove 01m6dv7580t8jkz5`
}

func (c queueRemoveCmd) Run(ctx context.Context) error {
	_, err := c.ask(ctx, "DELETE", "/"+url.PathEscape(c.ID))
	return err
}

// ask sends one request about the queue to who has it: the running gateway, or the spool.
func (f configFlag) ask(ctx context.Context, method, path string) ([]byte, error) {
	cfg, err := f.load()
	if err != nil {
		return nil, err
	}
	a, err := connect(ctx, cfg, openQueue)
	if err != nil {
		return nil, err
	}
	defer a.close()
	return a.do(ctx, method, "/v1/queue"+path, nil)
}

// openQueue serves the spool where no gateway runs. A message is then tried when one does.
func openQueue(_ context.Context, cfg *config.Config) (http.Handler, func(), error) {
	if cfg.Delivery.Mode == "stateless" {
		return nil, nil, usageError{fmt.Errorf("delivery.mode is \"stateless\": nothing is kept, so nothing waits")}
	}
	waiting, err := spool.Open(cfg.Delivery.SpoolDir, spool.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, err
	}
	retry := func(id string) bool {
		m, ok := waiting.Get(id)
		var due []spool.Change
		for _, r := range m.Recipients {
			due = append(due, spool.Change{Index: r.Index, Attempts: r.Attempts, Due: time.Now(), Waited: r.Waited, Delayed: r.Delayed, Reply: r.Reply})
		}
		return ok && waiting.Update(id, due) == nil
	}
	return relay.QueueAPI(waiting, retry, nil), func() { waiting.Close() }, nil
}

func errAnswer(err error) error {
	return fmt.Errorf("the gateway's answer is not understood, it may be of another version: %w", err)
}

func printWaiting(std streams, w relay.Waiting) {
	var b strings.Builder
	from := w.From
	if from == "" {
		from = "<> (a report)"
	}
	fmt.Fprintf(&b, "%s  %s  %d bytes  %s  scope %s  from %s\n", printable(w.ID), w.Arrived.Format(time.RFC3339), w.Bytes, printable(w.Class), printable(w.Scope), printable(from))
	for _, r := range w.Recipients {
		fmt.Fprintf(&b, "    %s  attempts %d", printable(r.To), r.Attempts)
		if !r.Next.IsZero() {
			fmt.Fprintf(&b, "  next %s", r.Next.Format(time.RFC3339))
		}
		b.WriteByte('\n')
		if r.Reply != "" {
			fmt.Fprintf(&b, "        %s\n", printable(r.Reply))
		}
	}
	fmt.Fprint(std.out, b.String())
}
