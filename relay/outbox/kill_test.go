package outbox

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/relay/spool"
)

const killedPeople = 5

func killedPerson(i int) string { return fmt.Sprintf("p%d@example.org", i) }

// load is the process that TestKill kills. It changes consents, and says each change that it was told is made.
func load(dir, hook string) error {
	ring, err := keyring.Load(filepath.Join(dir, "key"))
	if err != nil {
		return err
	}
	store, err := boltstore.Open(filepath.Join(dir, "consent.db"), ring)
	if err != nil {
		return err
	}
	sp, err := spool.Open(filepath.Join(dir, "spool"), spool.Options{SegmentSize: 64 << 10, ReserveSize: 64 << 10})
	if err != nil {
		return err
	}
	o := New(Config{Store: store, Spool: sp, WebhookURL: hook, TellChanges: true, Secrets: ring.Webhook(), Log: slog.New(slog.DiscardHandler), Now: time.Now})
	told := o.Told()
	go o.Run(context.Background())
	fmt.Println("begun")
	if os.Getenv("OUTBOX_TEST_END") != "" {
		for len(sp.Jobs()) > 0 {
			time.Sleep(5 * time.Millisecond)
		}
		return nil
	}
	for i := range killedPeople {
		go func() {
			who, err := consent.ParseAddress(killedPerson(i))
			for n := 0; err == nil; n++ {
				c := consent.Change{Who: who, Scope: "news", Open: consent.Granted, Notice: fmt.Sprint(os.Getpid(), n), Source: consent.FromAPI, Time: time.Now()}
				var rs []consent.Result
				if rs, err = told.Apply(context.Background(), []consent.Change{c}); err == nil && rs[0].Err == nil {
					fmt.Println("changed", i, c.Notice)
				}
			}
			fmt.Println("failed", err)
		}()
	}
	select {}
}

// TestKill kills a process that changes consents, again and again, while the receiver fails now and then. In the end
// the receiver was told of every entry of every history, each under one ID, and of each person in order.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	must(t, keyring.Create(filepath.Join(dir, "key")))
	r := newReceiver(t, false)
	var n atomic.Int64
	r.answers(func(call) int {
		if n.Add(1)%50 == 0 {
			return 503
		}
		return 204
	})
	said := map[string]bool{}
	rounds := 4
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds + 1 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "OUTBOX_TEST_LOAD="+dir, "OUTBOX_TEST_HOOK="+r.URL)
		if round == rounds {
			cmd.Env = append(cmd.Env, "OUTBOX_TEST_END=1")
		}
		out, err := cmd.StdoutPipe()
		must(t, err)
		cmd.Stderr = os.Stderr
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for i := 0; lines.Scan(); i++ {
			word, rest, _ := strings.Cut(lines.Text(), " ")
			switch word {
			case "failed":
				t.Error(lines.Text())
			case "changed":
				said[rest] = true
			}
			if i == 30+23*round && round < rounds {
				must(t, cmd.Process.Kill())
			}
		}
		cmd.Wait()
	}

	ring, err := keyring.Load(filepath.Join(dir, "key"))
	must(t, err)
	store, err := boltstore.Open(filepath.Join(dir, "consent.db"), ring)
	must(t, err)
	defer store.Close()
	ids := map[string]string{}   // by person and number
	told := map[string]bool{}    // person and notice
	last := map[string]float64{} // by person
	for _, c := range r.got() {
		person, number := c.data["address"].(string), c.data["number"].(float64)
		what := person + strconv.Itoa(int(number))
		if id, again := ids[what]; again && id != c.id {
			t.Errorf("%s came as %s and as %s", what, id, c.id)
		}
		if number > last[person]+1 {
			t.Errorf("%s: number %v behind %v", person, number, last[person])
		}
		last[person] = max(last[person], number)
		ids[what] = c.id
		told[person+" "+c.data["notice"].(string)] = true
	}
	entries := 0
	for i := range killedPeople {
		for e, err := range store.History(t.Context(), who(t, killedPerson(i))) {
			must(t, err)
			entries++
			if what := killedPerson(i) + strconv.Itoa(int(e.Number)); ids[what] == "" {
				t.Errorf("%s was not told", what)
			}
			delete(said, fmt.Sprint(i, " ", e.Notice))
		}
	}
	if len(said) > 0 || entries == 0 || len(told) != entries {
		t.Errorf("%d changes were said to be made and are not there; %d entries, %d told", len(said), entries, len(told))
	}
	t.Logf("%d changes, %d calls", entries, len(r.got()))
}
