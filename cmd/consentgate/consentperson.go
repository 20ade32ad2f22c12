package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/consentgate/consentgate/consent"
)

// The verbs about all that is held of one person, and about the store as a whole.

// addressFlags say who is meant.
type addressFlags struct {
	configFlag
	Address string `arg:"" help:"The person's mail address."`
}

// ask sends one request about the person, below a path.
func (f addressFlags) ask(ctx context.Context, method, below string) ([]byte, error) {
	if err := checkAddress("ADDRESS", f.Address); err != nil {
		return nil, err
	}
	return f.askConsents(ctx, method, below+url.PathEscape(f.Address), nil)
}

func checkAddress(what, address string) error {
	if _, err := consent.ParseAddress(address); err != nil {
		return usageError{fmt.Errorf("%s: %w", what, err)}
	}
	return nil
}

// askConsents sends one request to who has the consent store.
func (f configFlag) askConsents(ctx context.Context, method, path string, body any) ([]byte, error) {
	cfg, err := f.load()
	if err != nil {
		return nil, err
	}
	a, err := connect(ctx, cfg, openConsents)
	if err != nil {
		return nil, err
	}
	defer a.close()
	return a.do(ctx, method, path, body)
}

type consentHistoryCmd struct {
	addressFlags
	JSON bool `name:"json" help:"Print what the API answers."`
}

func (consentHistoryCmd) Help() string {
	return `Ends with status 1 where something in the history was changed, or is missing.

Example:

    consentgate consent history anna@example.org`
}

func (c consentHistoryCmd) Run(ctx context.Context, std streams) error {
	body, err := c.ask(ctx, "GET", "/v1/history/")
	if err != nil {
		return err
	}
	var h personHistory
	if err := json.Unmarshal(body, &h); err != nil {
		return errAnswer(err)
	}
	if c.JSON {
		_, err = std.out.Write(body)
	} else {
		_, err = std.out.Write([]byte(h.text()))
	}
	if err == nil && !h.Intact {
		return errors.New("THE HISTORY DOES NOT HOLD: something in it was changed, or is missing")
	}
	return err
}

// personHistory is the API's answer, as far as it is printed.
type personHistory struct {
	Address string
	Intact  bool
	Events  []struct {
		Number   uint64
		Kind     consent.EventKind
		Time     time.Time
		Scope    consent.Scope
		Source   consent.Source
		Origin   string
		Notice   string
		Old, New consent.States
		Broken   string
	}
}

func (h personHistory) text() string {
	var b strings.Builder
	if len(h.Events) == 0 {
		fmt.Fprintf(&b, "%s: never recorded\n", h.Address)
		return b.String()
	}
	fmt.Fprintf(&b, "%s\n", h.Address)
	for _, e := range h.Events {
		fmt.Fprintf(&b, "  %d  %s", e.Number, e.Time.UTC().Format(time.RFC3339))
		switch e.Kind {
		case consent.Changed:
			fmt.Fprintf(&b, "  scope %s", e.Scope)
			for _, p := range []struct {
				purpose  consent.Purpose
				old, now consent.State
			}{{consent.Mail, e.Old.Mail, e.New.Mail}, {consent.Open, e.Old.Open, e.New.Open}, {consent.Click, e.Old.Click, e.New.Click}} {
				if p.now == "" {
					continue
				}
				old := p.old
				if old == "" {
					old = "never recorded"
				}
				fmt.Fprintf(&b, "  %s: %s → %s", p.purpose, old, p.now)
			}
		case consent.Chained:
			fmt.Fprintf(&b, "  scope %s  unsubscribe sent to the sender's own list: %s", e.Scope, printable(e.Origin))
			e.Origin = ""
		case consent.RenamedFrom:
			b.WriteString("  these records came from another address")
		case consent.RenamedTo:
			b.WriteString("  these records went to another address")
		case consent.Checkpoint:
			b.WriteString("  what was before, and proved nothing in force, was deleted")
		default:
			fmt.Fprintf(&b, "  %s", e.Kind)
		}
		for _, d := range []struct{ word, value string }{{"by", string(e.Source)}, {"through", e.Origin}, {"notice", e.Notice}} {
			if d.value != "" {
				fmt.Fprintf(&b, "  %s %s", d.word, printable(d.value))
			}
		}
		b.WriteByte('\n')
		if e.Broken != "" {
			fmt.Fprintf(&b, "     BROKEN: %s\n", e.Broken)
		}
	}
	if h.Intact {
		b.WriteString("the chain holds: nothing was changed, nothing is missing\n")
	}
	return b.String()
}

type consentRenameCmd struct {
	configFlag
	Old string `arg:"" help:"The address as it is recorded."`
	New string `arg:"" help:"The address as it should be."`
}

func (consentRenameCmd) Help() string {
	return `Where the new address has records too, the later decision counts for each purpose, and an opt-out of either stays.

Example:

    consentgate consent rename ana@example.org anna@example.org`
}

func (c consentRenameCmd) Run(ctx context.Context) error {
	if err := checkAddress("OLD", c.Old); err != nil {
		return err
	}
	if err := checkAddress("NEW", c.New); err != nil {
		return err
	}
	_, err := c.askConsents(ctx, "POST", "/v1/rename", map[string]string{"old": c.Old, "new": c.New})
	return err
}

type consentEraseCmd struct {
	addressFlags
	Yes bool `help:"Do not ask back."`
}

func (consentEraseCmd) Help() string {
	return `Removes a person's records and history, and takes the person out of what waits to be delivered. Of somebody who unsubscribed, what stays is a keyed hash with the opt-out, so that nobody is mailed again by mistake. On a terminal it asks back.

Example:

    consentgate consent erase anna@example.org`
}

func (c consentEraseCmd) Run(ctx context.Context, std streams) error {
	if err := checkAddress("ADDRESS", c.Address); err != nil {
		return err
	}
	if !c.Yes {
		file, ok := std.in.(*os.File)
		if !ok || !term.IsTerminal(int(file.Fd())) {
			return usageError{errors.New("this cannot be undone, and there is no terminal to ask on: say --yes")}
		}
		fmt.Fprintf(std.err, "Erase all that is held of %s? It cannot be undone. [y/N] ", c.Address)
		line, err := bufio.NewReader(file).ReadString('\n')
		if answer := strings.ToLower(strings.TrimSpace(line)); err != nil || answer != "y" && answer != "yes" {
			return errors.New("nothing was erased")
		}
	}
	_, err := c.ask(ctx, "DELETE", "/v1/consent/")
	return err
}

type consentAcceptStoreCmd struct{ configFlag }

func (consentAcceptStoreCmd) Help() string {
	return `A store that has lost its records would let everybody count as subscribed, so the gateway treats it as one that does not answer, until this is said. First put its backup back, if there is one.

Example:

    consentgate consent accept-store`
}

func (c consentAcceptStoreCmd) Run(ctx context.Context) error {
	_, err := c.askConsents(ctx, "POST", "/v1/accept-store", nil)
	return err
}
