package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/redisstore"
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
	a, err := connect(ctx, cfg, openKept)
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
		if err := sure(std, fmt.Sprintf("Erase all that is held of %s? It cannot be undone.", c.Address), "nothing was erased"); err != nil {
			return err
		}
	}
	_, err := c.ask(ctx, "DELETE", "/v1/consent/")
	return err
}

// sure asks on the terminal whether something is to be done that cannot be undone; no is the error of another answer.
func sure(std streams, question, no string) error {
	file := terminal(std)
	if file == nil {
		return usageError{errors.New("this cannot be undone, and there is no terminal to ask on: say --yes")}
	}
	fmt.Fprintf(std.err, "%s [y/N] ", question)
	line, err := bufio.NewReader(file).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); err != nil || answer != "y" && answer != "yes" {
		return errors.New(no)
	}
	return nil
}

type consentAcceptStoreCmd struct {
	configFlag
	Yes bool `help:"Do not ask back."`
}

func (consentAcceptStoreCmd) Help() string {
	return `A store that has lost its records would let everybody count as subscribed, so the gateway treats it as one that does not answer, until this is said. First put its backup back, if there is one. On a terminal it asks back. Where no gateway runs, what it knows is set right for its next start.

Example:

    consentgate consent accept-store`
}

func (c consentAcceptStoreCmd) Run(ctx context.Context, std streams) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	running, err := connect(ctx, cfg, nobodyServes)
	if err == nil {
		defer running.close()
		_, _, err = running.send(ctx, answerTime, "GET", "/readyz", nil, nil)
	} else if errors.Is(err, errNobody) {
		running = nil
		_, err = checkStore(ctx, cfg, false, slog.New(slog.DiscardHandler))
	} else {
		return err
	}
	switch {
	case err == nil:
		fmt.Fprintln(std.out, "nothing to accept: the store answers, and holds what the gateway knows")
		return nil
	case !strings.Contains(err.Error(), consent.ErrLost.Error()):
		return err
	}
	held := ""
	if running != nil { // whose store need not be the one that the file names by now
		held = heldBy(ctx, running)
	} else {
		held = peopleIn(ctx, cfg)
	}
	if !c.Yes {
		if err := sure(std, "The store holds "+held+". From now on everybody else counts as never asked and as subscribed, those too who had opted out. Work with it as it is?", "nothing was accepted"); err != nil {
			return err
		}
	}
	a := running
	if a == nil { // only now, since it makes a file where there is none
		if a, err = connect(ctx, cfg, openKnown); err != nil {
			return err
		}
		defer a.close()
	}
	if _, err := a.do(ctx, "POST", "/v1/accept-store", nil); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "accepted: the store is worked with as it is, with %s\n", held)
	return nil
}

// heldPath is where the control socket says how many people are in the store that would be accepted.
const heldPath = "/v1/held"

type heldPeople struct {
	People int64 `json:"people"`
}

// serveHeld answers that of a gateway's store.
func serveHeld(store consent.Store) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerTime)
		defer cancel()
		var n int64
		err := errors.ErrUnsupported
		switch s := store.(type) {
		case interface {
			Held(context.Context) (int64, error)
		}:
			n, err = s.Held(ctx)
		case interface {
			Count(context.Context) (int64, error)
		}:
			n, err = s.Count(ctx)
		}
		if err != nil {
			http.Error(w, "the people in the store cannot be counted", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(heldPeople{n})
	}
}

// heldBy asks a running gateway how many people its store holds.
func heldBy(ctx context.Context, a *api) string {
	var h heldPeople
	body, err := a.do(ctx, "GET", heldPath, nil)
	if err == nil {
		err = json.Unmarshal(body, &h)
	}
	return people(h.People, err)
}

// people says how many there are; err is why that is not known.
func people(n int64, err error) string {
	switch {
	case err != nil:
		return "a number of people that is not known here"
	case n == 0:
		return "nobody"
	}
	return fmt.Sprintf("about %d people", n)
}

// peopleIn says how many people the store holds, where no gateway runs.
func peopleIn(ctx context.Context, cfg *config.Config) string {
	ring, err := keyring.Load(cfg.KeyFile)
	if err != nil {
		return people(0, err)
	}
	var store interface {
		Count(context.Context) (int64, error)
		Close() error
	}
	if file := cfg.StoreFile(); file == "" {
		store, err = redisstore.Open(cfg.Consent.Store, ring, redisstore.Options{Moving: redisstore.Look, Log: slog.New(slog.DiscardHandler)})
		if errors.Is(err, redisstore.ErrNothing) {
			return people(0, nil)
		}
	} else {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return people(0, nil)
		}
		store, err = boltstore.Open(file, ring)
	}
	if err != nil {
		return people(0, err)
	}
	defer store.Close()
	return people(store.Count(ctx))
}
