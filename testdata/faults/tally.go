package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/consentgate/consentgate/consent/keyring"
)

// tally is what came of a scenario, in copies: one recipient of one message.
type tally struct {
	name                string
	seconds             int
	messages, accepted  int
	delivered, reported int
	lost, doubled       int
	needless            int // of the doubled: the first was answered 250
	tracked             int // with the pixel, without consent
	mailed              int // though unsubscribed
	refused, unsure     int
	restarts, kills     int
	waiting             string
}

// skipped says why a scenario cannot run here.
type skipped string

func (s skipped) Error() string { return string(s) }

// diskSize is that of the disk which is filled up.
const diskSize = 200 << 20

func (sc scenario) run(ctx context.Context, dir, binary string, duration time.Duration, seed uint64) (*tally, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	disk := filepath.Join(dir, "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		return nil, err
	}
	if sc.fullDisk {
		if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", diskSize)); err != nil {
			return nil, skipped(fmt.Sprintf("no disk of a fixed size can be made here (mount tmpfs, as root on Linux): %v", err))
		}
		defer syscall.Unmount(disk, syscall.MNT_DETACH)
	}
	k, err := newSink(seed)
	if err != nil {
		return nil, err
	}
	defer k.close()
	if err := keyring.Create(filepath.Join(dir, "key")); err != nil {
		return nil, err
	}
	g, err := newGateway(dir, binary, settings{
		key: filepath.Join(dir, "key"), mode: sc.mode, smarthost: k.addr, spool: filepath.Join(disk, "spool"), store: "file:" + filepath.Join(dir, "consent.db"),
	})
	if err != nil {
		return nil, err
	}
	if err := g.start(ctx); err != nil {
		return nil, err
	}
	defer func() { g.cmd.Process.Kill(); <-g.done }()
	for who, what := range map[string][]string{
		consents:     {"--open", "granted", "--click", "granted"},
		unsubscribed: {"--mail", "unsubscribed"},
	} {
		if _, err := g.cli(ctx, append([]string{"consent", "set", who + "@example.com"}, what...)...); err != nil {
			return nil, err
		}
	}

	fmt.Printf("%s: %v\n", sc.name, duration.Round(time.Second))
	k.wrong.Store(true)
	l := newLoad(g.smtp, fmt.Sprintf("%x", seed&0xffff))
	loading, end := context.WithTimeout(ctx, duration)
	defer end()
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		l.run(loading, 8, 20*time.Millisecond, seed)
	}()
	random := rand.New(rand.NewPCG(seed, 2))
	nextFill := time.Now().Add(3 * time.Second)
	filled := false
	for loading.Err() == nil {
		pause := sc.kill/2 + time.Duration(random.Int64N(int64(sc.kill)))
		sleep(loading, pause)
		if sc.fullDisk && time.Now().After(nextFill) {
			if filled {
				err = os.Remove(filepath.Join(disk, "filler"))
			} else {
				err = fill(filepath.Join(disk, "filler"))
			}
			if err != nil {
				return nil, err
			}
			filled, nextFill = !filled, time.Now().Add(3*time.Second)
		}
		if loading.Err() == nil {
			if err := g.kill(ctx, random.IntN(5) == 0); err != nil {
				return nil, err
			}
		}
	}
	<-loaded
	k.wrong.Store(false)
	if filled {
		if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
			return nil, err
		}
	}
	left, err := g.drained(ctx, 2*time.Minute, true)
	if err != nil {
		return nil, err
	}
	if err := g.stop(); err != nil {
		return nil, err
	}
	t := count(l, k)
	t.name, t.seconds, t.restarts, t.kills, t.waiting = sc.name, int(duration.Seconds()), g.restarts, g.kills, left
	if left != "" {
		return nil, fmt.Errorf("the spool is not empty two minutes after all is well again:\n%s", left)
	}
	return t, nil
}

// fill writes until there is no room.
func fill(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for {
		if _, err := f.Write(block); err != nil {
			if os.IsPermission(err) {
				return err
			}
			return nil // full
		}
	}
}

// count compares what was answered 250 with what arrived.
func count(l *load, k *sink) *tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	t := &tally{}
	for mark, m := range l.answers {
		switch m.code {
		case 0:
			t.unsure++
			continue
		case 250:
			t.messages++
		default: // the sender still has it
			t.refused++
			continue
		}
		for _, r := range m.to {
			c := copyOf{mark, r}
			t.accepted++
			n, report := k.copies[c], k.reports[c]
			switch {
			case n > 0:
				t.delivered++
			case report != "":
				t.reported++
			default:
				t.lost++
				fmt.Printf("LOST: %s to %s\n", mark, r)
			}
			if n > 1 {
				t.doubled++
				if !k.unsaid[c] {
					t.needless++
				}
			}
		}
	}
	for c, text := range k.text {
		local, _, _ := strings.Cut(c.to, "@")
		if strings.Contains(text, pixel) != (local == consents) {
			t.tracked++
			fmt.Printf("TRACKED, or not though agreed: %s to %s\n", c.mark, c.to)
		}
		if local == unsubscribed {
			t.mailed++
			fmt.Printf("MAILED though unsubscribed: %s to %s\n", c.mark, c.to)
		}
		if !strings.Contains(text, "end of "+c.mark) {
			t.lost++
			fmt.Printf("CUT SHORT: %s to %s\n", c.mark, c.to)
		}
	}
	return t
}

func (t *tally) bad() bool {
	return t.lost > 0 || t.needless > inFlight*t.kills || t.tracked > 0 || t.mailed > 0
}

func report(rows []*tally) string {
	var b strings.Builder
	restarts, kills := 0, 0
	for _, t := range rows {
		restarts += t.restarts
		kills += t.kills
	}
	fmt.Fprintf(&b, "%s\n\nWritten by `make faults` on %s: %d restarts, %d of them by SIGKILL and the others by SIGTERM.\nThe sender has 8 connections and 1 to 6 recipients a message. \"Doubled\" are copies that arrived more than once, \"refused\" messages answered 4yz or\n5yz, \"unsure\" those whose connection broke before the answer; their sender still has both.\n\n", parts[partFirst], time.Now().UTC().Format("2006-01-02"), restarts, kills)
	b.WriteString("| what is wrong | s | restarts | messages answered 250 | copies owed | delivered | reported | lost | doubled | of these, the first answered 250 | tracked without consent | mailed though unsubscribed | refused | unsure |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, t := range rows {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d | **%d** | %d | %d | **%d** | **%d** | %d | %d |\n",
			t.name, t.seconds, t.restarts, t.messages, t.accepted, t.delivered, t.reported, t.lost, t.doubled, t.needless, t.tracked, t.mailed, t.refused, t.unsure)
	}
	return b.String()
}
