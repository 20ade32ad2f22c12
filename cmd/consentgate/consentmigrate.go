package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/migrate"
	"github.com/consentgate/consentgate/consent/redisstore"
)

type consentMigrateCmd struct {
	configFlag
	To      string `required:"" placeholder:"STORE" help:"The new store, as in consent.store."`
	From    string `placeholder:"STORE" help:"The old one. Without it: consent.store."`
	Merge   bool   `help:"The new store holds people already, who stay: of whom both hold, the later decision counts."`
	Missing string `enum:",erased,keep" default:"" placeholder:"erased|keep" help:"What became of people who are in one store alone and were in both: they were erased in the other, or that lost them and they are to be kept. Without it, where there are any, nothing is changed."`
	Stopped bool   `help:"No gateway runs: end when all is copied and compared."`
}

func (consentMigrateCmd) Help() string {
	return `Moves all people, with their histories, while gateways go on. It copies everybody; then it says so, and passes every change of either store on to the other. Now give each gateway the new consent.store and start it again, one after the other. When all have it, press Ctrl-C here (or send SIGINT): after 5 s everybody is compared, every history checked, and the old store closed: it is marked so that a gateway that was forgotten refuses it. A second Ctrl-C ends at once; within the 5 s the old store stays open. SIGTERM ends at once, too, and closes nothing. The exit status is 0 only where both hold the same.

In both names ${NAME} is taken from the environment, so that no password stands among the arguments, which others can see.

Where it was stopped, the same command goes on. A file that a gateway holds is moved by that gateway; when it is started with the new store, all ends by itself. To move to a file, stop the gateway before Ctrl-C, and start it afterwards.

To give a move up, or to go back after it, move people the other way: --from the new store, --to the old one. What changed in the new one meanwhile comes along, the old one is open again, and the new one closed. Where no gateway uses the new one, say --stopped. Who is in the old one alone was erased in the new one, or was lost by it: nothing is changed where there are any, until --missing says which.

Examples:

    consentgate consent migrate --to redis://127.0.0.1:6379/0

    consentgate consent migrate --to redis+cluster://10.0.0.1:6379,10.0.0.2:6379

    consentgate consent migrate --from redis+cluster://10.0.0.1:6379,10.0.0.2:6379 --to redis://127.0.0.1:6379/0`
}

func (c consentMigrateCmd) Run(ctx context.Context, std streams) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	for name, store := range map[string]*string{"to": &c.To, "from": &c.From} {
		if *store, err = fromEnvironment(*store); err != nil {
			return usageError{fmt.Errorf("--%s: %w", name, err)}
		}
	}
	from := c.From
	if from == "" {
		from = cfg.Consent.Store
	}
	for name, store := range map[string]string{"to": c.To, "from": from} {
		if err := checkMovable(store); err != nil {
			return usageError{fmt.Errorf("--%s: %w", name, err)}
		}
	}
	if from == c.To {
		return usageError{errors.New("--to: this is the store to move from: was the configuration changed already? then name the old one with --from")}
	}
	ring, err := keyring.Load(cfg.KeyFile)
	if err != nil {
		return usageError{err}
	}
	m := &moving{consentMigrateCmd: c, cfg: cfg, ring: ring, from: from, std: std}
	if config.StoreFile(from) != "" {
		if err := m.byGateway(ctx); !errors.Is(err, errNobody) {
			if err != nil {
				return err
			}
			m.Stopped = true // who held the file has handed it over
		}
	}
	return m.here(ctx)
}

var variable = regexp.MustCompile(`\$\$\{|\$\{(\w+)\}`)

// fromEnvironment puts the environment in where a flag says ${NAME}, as in the configuration: what stands in the
// arguments of a program can be seen by everybody on the machine.
func fromEnvironment(store string) (string, error) {
	var err error
	store = variable.ReplaceAllStringFunc(store, func(name string) string {
		if name == "$${" {
			return "${"
		}
		name = name[2 : len(name)-1]
		value, ok := os.LookupEnv(name)
		if !ok {
			err = fmt.Errorf("the environment has no %s", name)
		}
		return value
	})
	return store, err
}

func checkMovable(url string) error {
	if file := config.StoreFile(url); file != "" {
		return nil
	}
	return redisstore.CheckURL(url)
}

// openMoving opens a store to move people from or to.
func openMoving(url string, ring *keyring.Ring, role redisstore.Role) (migrate.Store, error) {
	if file := config.StoreFile(url); file != "" {
		return boltstore.OpenMoving(file, ring)
	}
	return redisstore.Open(url, ring, redisstore.Options{Moving: role, Log: slog.New(slog.DiscardHandler)})
}

// moving is a migration as the command sees it.
type moving struct {
	consentMigrateCmd
	cfg  *config.Config
	ring *keyring.Ring
	from string
	std  streams

	mu       sync.Mutex // of what is printed
	pass     string
	progress *progress
}

// at shows how far a pass is.
func (m *moving) at(pass string, done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.progress == nil || m.pass != pass {
		m.pass, m.progress = pass, newProgress(m.std.err, time.Now, total, 0)
		m.progress.unit = "people " + pass
	}
	m.progress.total = total
	m.progress.at(done, int(done))
}

// say prints a line beside the progress.
func (m *moving) say(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.progress != nil {
		m.progress.clear()
	}
	fmt.Fprintln(m.std.err, text)
}

const bothHold = "Both stores hold the same, and every change is passed on. Give each gateway the new consent.store and start it again."

// beforeEnd is how long somebody who asked for the end may think better of it: it closes the old store.
const beforeEnd = 5 * time.Second

// here moves people in this process.
func (m *moving) here(ctx context.Context) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	old, err := openMoving(m.from, m.ring, redisstore.From)
	if err != nil {
		return fmt.Errorf("the store to move from: %w", err)
	}
	defer old.Close()
	next, err := openMoving(m.To, m.ring, redisstore.To)
	if err != nil {
		return fmt.Errorf("the store to move to: %w", err)
	}
	defer next.Close()
	mover := migrate.New(old, next, migrate.Options{
		Ledger: consent.NewLedger(m.ring), Merge: m.Merge, Missing: migrate.Missing(m.Missing), Now: time.Now, Progress: m.at, Say: m.say,
	})
	defer mover.Close()

	end := make(chan struct{})
	following := make(chan struct{})
	go func() {
		defer cancel()
		for ended := false; ; {
			select {
			case s := <-signals:
				if s != os.Interrupt { // the machine stops, say, and gateways may use the old store still
					return
				}
			case <-ctx.Done():
				return
			}
			select {
			case <-following:
			default: // what is not copied yet cannot be ended well
				return
			}
			if ended {
				return
			}
			ended = true
			m.say(fmt.Sprintf("In %.0f s the old store is closed to every gateway that still uses it. Ctrl-C again leaves it open.", beforeEnd.Seconds()))
			select {
			case <-time.After(beforeEnd):
				close(end)
			case <-signals:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	stopped := func(err error) error {
		if errors.Is(err, context.Canceled) {
			m.say("")
			return errors.New("stopped before the end; the same command goes on, with --from where the configuration names the new store by now; with both stores exchanged it gives the move up")
		}
		return err
	}
	if err := mover.Begin(ctx); err != nil {
		return stopped(err)
	}
	if !m.Stopped {
		close(following)
		m.say(bothHold + " When all have it, press Ctrl-C here.")
		if err := mover.Follow(ctx, end); err != nil {
			return stopped(err)
		}
	}
	r, err := mover.Finish(ctx)
	if err != nil {
		return stopped(err)
	}
	m.say("")
	fmt.Fprintf(m.std.out, "%d people with %d entries in their histories are in the new store, as in the old one; %d histories do not hold, as before\n", r.People, r.Events, r.Broken)
	return nil
}

// step is a line of what the gateway answers while it moves people.
type step struct {
	Pass   string `json:"pass,omitempty"`
	Done   int64  `json:"done,omitempty"`
	Total  int64  `json:"total,omitempty"`
	Say    string `json:"say,omitempty"`
	Ready  bool   `json:"ready,omitempty"`  // both hold the same now
	Handed bool   `json:"handed,omitempty"` // the gateway stops, and all that it told is in the new store
	Error  string `json:"error,omitempty"`
}

// byGateway lets the gateway that holds the file move people until it stops, and returns once it has let go of the
// file for good. Where none runs the error is errNobody.
func (m *moving) byGateway(ctx context.Context) error {
	for ran := false; ; ran = true {
		err := m.askGateway(ctx)
		switch {
		case errors.Is(err, errOtherStore): // the gateway works with the new one
			return nil
		case errors.Is(err, errNobody) && !ran:
			return err
		case errors.Is(err, errNobody):
			if cfg, e := m.load(); e == nil && cfg.Consent.Store != m.from {
				return nil
			}
			// It is not for this program to hold a file that the gateway will want again.
			m.say("The gateway stopped and its configuration still names the old store: waiting for it to come back, or for the new consent.store.")
		case err == nil:
			m.say("The gateway stops; what it knew is in the new store. All ends once the configuration names that one as consent.store.")
		case !errors.Is(err, errEnds):
			return err
		}
		if err := m.await(ctx); err != nil {
			return err
		}
	}
}

// await waits until a gateway answers, or nobody is to be waited for since the configuration names another store.
func (m *moving) await(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errStopped
		}
		conn, err := dialControl(ctx, controlPath(m.cfg))
		if err == nil {
			conn.Close()
			return nil
		}
		if cfg, e := m.load(); e == nil && cfg.Consent.Store != m.from && errors.Is(err, errNobody) {
			return nil
		}
	}
}

var (
	errStopped = errors.New("stopped before the end; the same command goes on")
	errEnds    = errors.New("the gateway ends") // and says no more
)

// errOtherStore says that the running gateway has another store than the file to move from.
var errOtherStore = errors.New("the gateway that runs has another store")

// askGateway asks the running gateway to move people, and returns when it has handed them over.
func (m *moving) askGateway(ctx context.Context) error {
	a, err := connect(ctx, m.cfg, func(context.Context, *config.Config) (http.Handler, func(), error) { return nil, nil, errNobody })
	if err != nil {
		return err
	}
	defer a.close()
	body, err := json.Marshal(moveRequest{From: m.from, To: m.To, Merge: m.Merge, Missing: migrate.Missing(m.Missing)})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, "POST", "http://localhost/v1/migrate", strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.client.Do(req)
	if err != nil && ctx.Err() == nil {
		return errEnds
	} else if err != nil {
		return errStopped
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusConflict:
		return errOtherStore
	default:
		return fmt.Errorf("the gateway answers %s", resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		var s step
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return errAnswer(err)
		}
		switch {
		case s.Error != "":
			return errors.New(s.Error)
		case s.Say != "":
			m.say(s.Say)
		case s.Ready:
			m.say(bothHold + " The rest goes by itself.")
		case s.Handed:
			return nil
		default:
			m.at(s.Pass, s.Done, s.Total)
		}
	}
	if ctx.Err() != nil {
		return errStopped
	}
	m.say("The gateway ended without a word: what it decided last is read from its file.")
	return errEnds
}
