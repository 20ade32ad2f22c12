package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("SPOOL_TEST_LOAD"); dir != "" {
		load(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// held is a body that is in memory and cannot be read in another way.
type held struct {
	io.ReaderAt
	text []byte
}

func (h held) Bytes() []byte { return h.text }

// TestHeldBody: what is in memory is not read once more, unless it is not all.
func TestHeldBody(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s, err := Open(dir, Options{})
	must(t, err)
	text := []byte("a body")
	whole, part := newMessage("whole", 1, "a body"), newMessage("part", 1, "a body")
	whole.Body, part.Body = held{text: text}, held{strings.NewReader("a body"), text[:3]}
	must(t, s.Add(whole, part))
	for range 2 {
		for _, id := range []string{"whole", "part"} {
			b, err := s.Body(id)
			must(t, err)
			if got, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size())); string(got) != "a body" || err != nil {
				t.Errorf("%s: %q, %v", id, got, err)
			}
			must(t, b.Close())
		}
		must(t, s.Close())
		s, err = Open(dir, Options{})
		must(t, err)
	}
	must(t, s.Close())
}

// TestOutcomesWaitForMore: where several came at a time before, an outcome waits for others, but nothing waits with it.
func TestOutcomesWaitForMore(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "spool"), Options{patience: time.Hour})
	must(t, err)
	must(t, s.Add(newMessage("alone", 1, "a body")))
	must(t, s.Update("alone", []Change{{Index: 0, Done: true}})) // no crowd, no waiting
	must(t, waits(t, s, func() error { return s.Add(newMessage("new", 1, "a body")) }))
	must(t, waits(t, s, func() error { return s.Room(1, 1) }))
	must(t, waits(t, s, func() error { return s.Alive(t.Context()) }))
	must(t, waits(t, s, s.Close))

	s, err = Open(filepath.Join(t.TempDir(), "spool"), Options{patience: time.Millisecond})
	must(t, err)
	must(t, waits(t, s, func() error { return nil }))
	must(t, s.Close())
}

// waits has an outcome written in a crowd, calls hurry while it waits, and returns what became of both.
func waits(t *testing.T, s *Spool, hurry func() error) error {
	t.Helper()
	must(t, s.Add(newMessage("waits", 1, "a body")))
	s.mu.Lock()
	s.crowded = true
	s.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- s.Update("waits", []Change{{Index: 0, Done: true}}) }()
	if s.opts.patience == time.Hour {
		for pending := 0; pending == 0 && len(done) == 0; runtime.Gosched() {
			s.mu.Lock()
			pending = len(s.pending)
			s.mu.Unlock()
		}
		time.Sleep(20 * time.Millisecond)
		if len(done) != 0 {
			t.Fatal("it did not wait")
		}
	}
	return errors.Join(hurry(), <-done)
}

// TestRoundTrip: all that was said comes back, from memory and from the disk.
func TestRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s, err := Open(dir, Options{})
	must(t, err)
	m := Message{
		ID: "0ABC-x_y", Arrived: noon.Add(123456789 * time.Nanosecond).In(time.FixedZone("x", 3600)),
		Envelope: Envelope{
			From: "käthe@example.org", UTF8: true, Return: smtp.DSNReturnFull, EnvelopeID: "<&>\"", Header8Bit: true,
			Scope: "newsletter", Class: "transactional", Language: "de", Machine: true,
			Helo: "shop.example.org", Peer: "[192.0.2.1]", With: "ESMTPSA",
		},
		Recipients: []Recipient{
			{To: "anna@example.net", Notify: []smtp.DSNNotify{smtp.DSNNotifySuccess, smtp.DSNNotifyDelayed}, OriginalType: smtp.DSNAddressTypeRFC822, Original: "ann@example.net"},
			{To: `"b o"@example.net`, Attempts: 2, Due: time.Now(), Delay: time.Minute, Waited: time.Hour, Delayed: true, Reply: "451 4.3.0 \xff later"},
		},
		Size: 6,
	}
	must(t, s.Add(New{m, strings.NewReader("a body")}))
	must(t, s.Update(m.ID, []Change{{Index: 0, Attempts: 1, Due: noon, Delay: time.Second, Waited: 2 * time.Second, Delayed: true, Reply: "450"}, {Index: 7, Done: true}}))

	m.Arrived, m.Recipients[1].Due = m.Arrived.UTC(), m.Recipients[1].Due.Round(0).UTC()
	m.Recipients[1].Index, m.Recipients[1].Reply = 1, "451 4.3.0 \uFFFD later"
	r := &m.Recipients[0]
	r.Attempts, r.Due, r.Delay, r.Waited, r.Delayed, r.Reply = 1, noon, time.Second, 2*time.Second, true, "450"
	for range 3 {
		got, ok := s.Get(m.ID)
		if !ok || !reflect.DeepEqual(got, m) {
			t.Fatalf("got  %+v\nwant %+v", got, m)
		}
		if body, err := readBody(s, m.ID); body != "a body" || err != nil {
			t.Fatalf("%q, %v", body, err)
		}
		must(t, s.Close())
		s, err = Open(dir, Options{})
		must(t, err)
	}
	defer s.Close()
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		must(t, err)
		info, err := e.Info()
		must(t, err)
		if want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[e.IsDir()]; info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	must(t, err)
	_, err = Open(dir, Options{})
	want(t, err, ErrLocked)
}

// Where others may write, they could put a segment of their own, and so send mail.
func TestFolderOfOthers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("folders have no mode there")
	}
	dir := filepath.Join(t.TempDir(), "spool")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Chmod(dir, 0o777))
	s, err := Open(dir, Options{})
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Error(err)
	}
}

func TestAPI(t *testing.T) {
	var log bytes.Buffer
	d := newDisk(t)
	opts := small(d)
	opts.Log = slog.New(slog.NewTextHandler(&log, nil))
	s := open(t, opts)
	must(t, s.Add())
	a, b := newMessage("a", 2, "the body of a"), newMessage("b", 1, strings.Repeat("b", 1000))
	a.Arrived = noon.Add(time.Hour)
	must(t, s.Add(a, b))
	if all := s.All(); len(all) != 2 || all[0].ID != "b" || all[1].ID != "a" {
		t.Errorf("All: %v", all)
	}
	if st := s.Stats(); st.Messages != 2 || st.Recipients != 3 || !st.Oldest.Equal(noon) || st.Bytes < 1000+3<<10 {
		t.Errorf("Stats: %+v", st)
	}

	bad := map[string]New{
		"twice":        newMessage("a", 1, ""),
		"no ID":        newMessage("", 1, ""),
		"a path":       newMessage("../a", 1, ""),
		"long":         newMessage(strings.Repeat("a", 65), 1, ""),
		"nobody":       newMessage("c", 0, ""),
		"short body":   {Message: newMessage("c", 1, "xx").Message, Body: strings.NewReader("x")},
		"short big":    {Message: newMessage("c", 1, string(make([]byte, 2000))).Message, Body: strings.NewReader("x")},
		"not UTF-8":    {Message: Message{ID: "c", Recipients: []Recipient{{To: "\xff@example.org"}}}, Body: strings.NewReader("")},
		"broken body":  {Message: newMessage("c", 1, "xx").Message, Body: brokenBody{}},
		"beyond years": {Message: Message{ID: "c", Arrived: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC), Recipients: a.Recipients}, Body: strings.NewReader("")},
	}
	for name, n := range bad {
		err := s.Add(newMessage("good", 1, "x"), n)
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "@") {
			t.Errorf("%s: an address in %q", name, err)
		}
	}
	if names := d.names("/spool/big"); len(names) != 1 {
		t.Errorf("big bodies: %q", names)
	}
	want(t, s.Update("x", nil), ErrNotFound)
	want(t, s.Remove("x"), ErrNotFound)
	_, err := s.Body("x")
	want(t, err, ErrNotFound)

	// A Get is the caller's own.
	m, _ := s.Get("a")
	m.Recipients[0].To = "other@example.net"
	if m, _ := s.Get("a"); m.Recipients[0].To != "a-0@example.net" {
		t.Error("a message was changed from outside")
	}

	// Bodies stay readable, whatever becomes of their messages.
	body, err := s.Body("a")
	must(t, err)
	big, err := s.Body("b")
	must(t, err)
	report := newMessage("report", 1, "a report")
	must(t, s.Update("a", []Change{{Index: 1, Done: true}}))
	must(t, s.Update("a", []Change{{Index: 0, Done: true}}, report))
	must(t, s.Remove("b"))
	for want, b := range map[string]*Body{"the body of a": body, strings.Repeat("b", 1000): big} {
		got, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
		if string(got) != want || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		must(t, b.Close())
	}
	if all := s.All(); len(all) != 1 || all[0].ID != "report" {
		t.Errorf("All: %v", all)
	}
	must(t, s.Close())
	must(t, s.Close())
	if names := d.names("/spool/big"); len(names) != 0 {
		t.Errorf("big bodies: %q", names)
	}
	want(t, s.Add(a), ErrClosed)
	want(t, s.Update("report", []Change{{Done: true}}), ErrClosed)
	want(t, s.Remove("report"), ErrClosed)
	if strings.Contains(log.String(), "@") {
		t.Errorf("an address in the log: %s", &log)
	}
}

type brokenBody struct{}

func (brokenBody) ReadAt([]byte, int64) (int, error) { return 0, errors.New("broken") }

// TestBodies: the memory of one that is closed is lent again, and that of one that is open is nobody else's.
func TestBodies(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "spool"), Options{})
	must(t, err)
	const n = 5
	for i := range n {
		must(t, s.Add(newMessage(fmt.Sprint(i), 1, strings.Repeat(fmt.Sprint(i), 40<<10))))
	}
	var open [n]*Body
	lent := map[*byte]bool{}
	for round := range 200 {
		i := round % n
		if b := open[i]; b != nil {
			if text := b.Bytes(); len(text) != 40<<10 || strings.Trim(string(text), fmt.Sprint(i)) != "" {
				t.Fatalf("%d: %.20q…", i, text)
			}
			must(t, b.Close())
			must(t, b.Close()) // does nothing
			if _, err := b.ReadAt(make([]byte, 1), 0); b.Bytes() != nil || !errors.Is(err, os.ErrClosed) {
				t.Errorf("a closed one still has a text: %v", err)
			}
		}
		open[i], err = s.Body(fmt.Sprint(i))
		must(t, err)
		lent[&open[i].Bytes()[0]] = true
	}
	if len(lent) > 150 { // the race detector has a pool forget every fourth
		t.Errorf("200 times a body was read, %d times into new memory", len(lent))
	}
	must(t, s.Close())
}

// TestGrowth: a spool that takes and delivers for long, while some messages wait and are tried
// again, holds on the disk little more than what waits.
func TestGrowth(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	opts := Options{SegmentSize: 16 << 10, ReserveSize: 4 << 10, BigBody: 3000, files: d}
	s := open(t, opts)
	rng := rand.New(rand.NewPCG(1, 1))
	m := model{}
	for i := range 20 {
		n := newMessage(fmt.Sprint("waits", i), 1, text(rng, 500+rng.IntN(3000)))
		must(t, s.Add(n))
		m.add(n)
	}
	for i := range 1500 {
		id := fmt.Sprint("m", i)
		must(t, s.Add(newMessage(id, 1, text(rng, 500))))
		if i%3 == 0 {
			waits := fmt.Sprint("waits", i%20)
			c := []Change{{Index: 0, Attempts: i, Due: noon, Reply: "451 4.3.0 later"}}
			must(t, s.Update(waits, c))
			m.update(waits, c)
		}
		must(t, s.Update(id, []Change{{Index: 0, Done: true}}))
		if used := d.usedNow(); used > 400<<10 {
			t.Fatalf("after %d messages %d bytes are used:\n%v", i, used, d)
		}
	}
	check(t, s, m)
	must(t, s.Close())
	s = open(t, opts)
	check(t, s, m)
	for id := range m {
		must(t, s.Remove(id))
	}
	must(t, s.Close())
	s = open(t, opts)
	check(t, s, model{})
	s.mu.Lock()
	if len(s.done) != 0 && s.segments == nil {
		t.Errorf("%d messages that are done are remembered", len(s.done))
	}
	s.mu.Unlock()
}

func (d *disk) usedNow() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used()
}

// TestManyCallers has callers add, read, change and remove at once on a real disk, while segments
// are cleared out under them.
func TestManyCallers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := Options{SegmentSize: 64 << 10, ReserveSize: 16 << 10, BigBody: 6000}
	s, err := Open(dir, opts)
	must(t, err)
	const callers = 8
	var models [callers]model
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(c), 4))
			prefix := fmt.Sprintf("c%d-", c)
			m := model{}
			for range 60 {
				o := random(rng, m, prefix)
				if err := o.spool(s); err != nil {
					t.Errorf("%s: %v", o.name, err)
					return
				}
				o.model(m)
				for id, w := range m {
					if body, err := readBody(s, id); err != nil || body != w.body {
						t.Errorf("%s: %d bytes for %d, %v", id, len(body), len(w.body), err)
					}
					break
				}
			}
			models[c] = m
		})
	}
	all.Wait()
	for range 2 {
		for c, m := range models {
			got, err := holds(s, fmt.Sprintf("c%d-", c))
			must(t, err)
			if diff := got.difference(m); diff != "" {
				t.Error(diff)
			}
		}
		must(t, s.Close())
		s, err = Open(dir, opts)
		must(t, err)
	}
	must(t, s.Close())
}

// TestDoneTwice: calls for a message that another caller has finished meanwhile do no harm.
func TestDoneTwice(t *testing.T) {
	d := newDisk(t)
	s := open(t, small(d))
	var all sync.WaitGroup
	for i := range 50 {
		id := fmt.Sprint("m", i)
		must(t, s.Add(newMessage(id, 1, text(rand.New(rand.NewPCG(1, 1)), 1000*(i%2)))))
		for range 3 {
			all.Go(func() {
				if err := s.Remove(id); err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
				if err := s.Update(id, []Change{{Index: 0, Done: true}}); err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	must(t, s.Close())
	for _, seg := range s.segments {
		if seg.live != 0 && len(s.done) == 0 {
			t.Errorf("%s has %d bytes that nobody needs", seg.name, seg.live)
		}
	}
	s = open(t, small(d))
	check(t, s, model{})
}
