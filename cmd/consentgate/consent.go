package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/consentgate/consentgate/consent"
)

type consentCmd struct {
	Get         consentGetCmd         `cmd:"" help:"Print what is recorded for a person."`
	Set         consentSetCmd         `cmd:"" help:"Change what is recorded for a person, and print it."`
	History     consentHistoryCmd     `cmd:"" help:"Print every change of a person's records, and whether the chain holds."`
	Rename      consentRenameCmd      `cmd:"" help:"Give a person's records and history to the corrected address."`
	Erase       consentEraseCmd       `cmd:"" help:"Remove all that is held of a person."`
	Export      consentExportCmd      `cmd:"" help:"Print all that is held of a person, or everybody's records."`
	Import      consentImportCmd      `cmd:"" help:"Read records from a file."`
	Migrate     consentMigrateCmd     `cmd:"" help:"Move everybody to another store while gateways go on."`
	AcceptStore consentAcceptStoreCmd `cmd:"" help:"Work with a store that has lost its records, as it is."`
}

func (consentCmd) Help() string {
	return `Speaks to the running gateway over its control socket, and opens the store itself only where none runs.`
}

// personFlags say whose record is meant.
type personFlags struct {
	configFlag
	Address string `arg:"" help:"The person's mail address."`
	Scope   string `placeholder:"S" help:"The list, brand or stream; * for all of this gateway. Without it: consent.default_scope."`
}

type consentGetCmd struct {
	personFlags
	JSON bool `name:"json" help:"Print what the API answers."`
}

func (consentGetCmd) Help() string {
	return `Example:

    consentgate consent get anna@example.org --scope newsletter`
}

func (c consentGetCmd) Run(ctx context.Context, std streams) error {
	api, scope, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer api.close()
	body, err := api.do(ctx, "GET", c.path(scope), nil)
	if err != nil {
		return err
	}
	if c.JSON {
		_, err = std.out.Write(body)
		return err
	}
	if err := printRecord(std, body); err != nil || scope == consent.AnyScope {
		return err
	}
	// What holds for all scopes may decide too.
	body, err = api.do(ctx, "GET", c.path(consent.AnyScope), nil)
	if err != nil {
		return err
	}
	var r record
	if err := json.Unmarshal(body, &r); err != nil || r.Version == 0 {
		return err
	}
	fmt.Fprintln(std.out)
	return printRecord(std, body)
}

type consentSetCmd struct {
	personFlags
	Mail   string `placeholder:"subscribed|unsubscribed" help:"Whether the person gets marketing mail."`
	Open   string `placeholder:"granted|denied|unset" help:"Whether opens may be tracked."`
	Click  string `placeholder:"granted|denied|unset" help:"Whether clicks may be tracked."`
	Notice string `placeholder:"VERSION" help:"Version of the text that the person was shown."`
}

func (consentSetCmd) Help() string {
	return `Sets what is named and leaves the rest as it is.

Examples:

    consentgate consent set anna@example.org --scope newsletter --open granted --click granted --notice 2026-03

    consentgate consent set ben@example.org --scope '*' --mail unsubscribed`
}

func (c consentSetCmd) Run(ctx context.Context, std streams) error {
	change := map[string]string{}
	for purpose, state := range map[consent.Purpose]string{consent.Mail: c.Mail, consent.Open: c.Open, consent.Click: c.Click} {
		if state == "" {
			continue
		}
		if _, err := consent.ParseState(purpose, state); err != nil {
			return usageError{fmt.Errorf("--%s: %w", purpose, err)}
		}
		change[string(purpose)] = state
	}
	if len(change) == 0 {
		return usageError{fmt.Errorf("nothing to set: name --mail, --open or --click")}
	}
	if err := consent.CheckNotice(c.Notice); err != nil {
		return usageError{fmt.Errorf("--notice: %w", err)}
	}
	if c.Notice != "" {
		change["notice"] = c.Notice
	}
	api, scope, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer api.close()
	body, err := api.do(ctx, "PUT", c.path(scope), change)
	if err != nil {
		return err
	}
	return printRecord(std, body)
}

// open checks the arguments and finds who answers: the running gateway, or the store.
func (p *personFlags) open(ctx context.Context) (*api, consent.Scope, error) {
	if _, err := consent.ParseAddress(p.Address); err != nil {
		return nil, "", usageError{fmt.Errorf("ADDRESS: %w", err)}
	}
	cfg, err := p.load()
	if err != nil {
		return nil, "", err
	}
	scope := cfg.Consent.DefaultScope
	if p.Scope != "" {
		if scope, err = consent.ParseScope(p.Scope); err != nil {
			return nil, "", usageError{fmt.Errorf("--scope: %w", err)}
		}
	}
	a, err := connect(ctx, cfg, openKept)
	return a, scope, err
}

func (p *personFlags) path(scope consent.Scope) string {
	return "/v1/consent/" + url.PathEscape(string(scope)) + "/" + url.PathEscape(p.Address)
}

// record is the API's answer, as far as it is printed.
type record struct {
	Scope   consent.Scope
	Address string
	Mail    consent.State
	Open    consent.State
	Click   consent.State
	Version uint64
	Detail  map[consent.Purpose]struct {
		Time   time.Time
		Source consent.Source
		Notice string
	}
}

func printRecord(std streams, body []byte) error {
	var r record
	if err := json.Unmarshal(body, &r); err != nil {
		return errAnswer(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s in scope %s\n", r.Address, r.Scope)
	for _, p := range []struct {
		purpose consent.Purpose
		state   consent.State
	}{{consent.Mail, r.Mail}, {consent.Open, r.Open}, {consent.Click, r.Click}} {
		d, recorded := r.Detail[p.purpose]
		if !recorded {
			fmt.Fprintf(&b, "  %-5s  %-12s  never recorded\n", p.purpose, p.state)
			continue
		}
		fmt.Fprintf(&b, "  %-5s  %-12s  %s  by %s", p.purpose, p.state, d.Time.UTC().Format(time.RFC3339), d.Source)
		if d.Notice != "" {
			fmt.Fprintf(&b, "  notice %s", d.Notice)
		}
		b.WriteByte('\n')
	}
	_, err := std.out.Write([]byte(b.String()))
	return err
}
