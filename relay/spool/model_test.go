package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// small are sizes at which a short test sees everything happen.
func small(d *disk) Options {
	return Options{SegmentSize: 3 << 10, ReserveSize: 2 << 10, BatchSize: 2 << 10, BigBody: 900, files: d}
}

// model is what a spool is to hold.
type model map[string]modelMessage

type modelMessage struct {
	Message
	body string
}

func (m model) clone() model {
	c := model{}
	for id, msg := range m {
		msg.Message = msg.Message.clone()
		c[id] = msg
	}
	return c
}

func newMessage(id string, recipients int, body string) New {
	m := Message{
		ID: id, Arrived: noon, Size: int64(len(body)),
		Envelope: Envelope{From: "shop@example.org", Scope: "newsletter", Class: "marketing", Return: smtp.DSNReturnHeaders},
	}
	for i := range recipients {
		m.Recipients = append(m.Recipients, Recipient{
			Index: i, To: fmt.Sprintf("%s-%d@example.net", id, i), Due: noon.Add(time.Minute),
			Notify: []smtp.DSNNotify{smtp.DSNNotifyFailure},
		})
	}
	return New{Message: m, Body: strings.NewReader(body)}
}

func newJob(id, body string) New {
	return New{Message: Message{
		ID: id, Arrived: noon, Size: int64(len(body)), Job: &Job{Queue: "webhook", Line: "line of " + id},
		Recipients: []Recipient{{Due: noon.Add(time.Minute)}},
	}, Body: strings.NewReader(body)}
}

func (m model) add(news ...New) {
	for _, n := range news {
		body, err := io.ReadAll(io.NewSectionReader(n.Body, 0, n.Size))
		if err != nil {
			panic(err)
		}
		m[n.ID] = modelMessage{n.Message.clone(), string(body)}
	}
}

func (m model) update(id string, changes []Change) {
	msg := m[id]
	for _, c := range changes {
		for i, r := range msg.Recipients {
			switch {
			case r.Index != c.Index:
			case c.Done:
				msg.Recipients = append(slices.Clone(msg.Recipients[:i]), msg.Recipients[i+1:]...)
			default:
				r.Attempts, r.Due, r.Delay, r.Waited, r.Delayed, r.Reply = c.Attempts, c.Due, c.Delay, c.Waited, c.Delayed, c.Reply
				msg.Recipients[i] = r
			}
			if r.Index == c.Index {
				break
			}
		}
	}
	if m[id] = msg; len(msg.Recipients) == 0 {
		delete(m, id)
	}
}

// op is one call, on the spool and on the model.
type op struct {
	name  string
	spool func(s *Spool) error
	model func(m model)
}

// random returns a call that makes sense for m. IDs begin with prefix.
// An ID may be one of a message that is done.
func random(rng *rand.Rand, m model, prefix string) op {
	message := func() New {
		size := rng.IntN(400)
		if rng.IntN(6) == 0 {
			size = rng.IntN(2000)
		}
		id := ""
		for ok := true; ok; _, ok = m[id] {
			id = fmt.Sprintf("%s%d", prefix, rng.IntN(60))
		}
		if strings.ContainsAny(id[len(id)-1:], "258") {
			return newJob(id, text(rng, size))
		}
		return newMessage(id, 1+rng.IntN(3), text(rng, size))
	}
	ids := slices.Sorted(maps.Keys(m))
	if len(ids) == 0 || rng.IntN(5) < 2 && len(ids) < 12 {
		news := []New{message()}
		if other := message(); other.ID != news[0].ID && rng.IntN(2) == 0 {
			news = append(news, other)
		}
		return op{"add", func(s *Spool) error { return s.Add(news...) }, func(m model) { m.add(news...) }}
	}
	id := ids[rng.IntN(len(ids))]
	patient := strings.HasSuffix(id, "0") || strings.HasSuffix(id, "5") // waits for long
	if rng.IntN(8) == 0 && !patient {
		return op{"remove " + id, func(s *Spool) error { return s.Remove(id) }, func(m model) { delete(m, id) }}
	}
	var changes []Change
	for _, r := range m[id].Recipients {
		switch rng.IntN(4) {
		case 0, 1:
			if !patient || rng.IntN(12) == 0 {
				changes = append(changes, Change{Index: r.Index, Done: true})
			}
		case 2:
			changes = append(changes, Change{
				Index: r.Index, Attempts: r.Attempts + 1, Due: noon.Add(time.Duration(rng.IntN(1000)) * time.Minute),
				Delay: time.Minute, Waited: r.Waited + time.Minute, Delayed: true, Reply: "451 4.3.0 " + text(rng, 20),
			})
		}
	}
	var news []New
	if rng.IntN(4) == 0 {
		news = append(news, message())
	}
	return op{"update " + id, func(s *Spool) error { return s.Update(id, changes, news...) }, func(m model) {
		m.add(news...)
		m.update(id, changes)
	}}
}

func text(rng *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())%94 + 32
	}
	return string(b)
}

// holds returns what s holds of IDs with prefix. Bodies that cannot be had are an error.
func holds(s *Spool, prefix string) (model, error) {
	m := model{}
	for _, msg := range append(s.All(), s.Jobs()...) {
		if !strings.HasPrefix(msg.ID, prefix) {
			continue
		}
		if _, twice := m[msg.ID]; twice {
			return nil, fmt.Errorf("%s is there twice", msg.ID)
		}
		body, err := readBody(s, msg.ID)
		if err != nil {
			return nil, err
		}
		m[msg.ID] = modelMessage{msg, body}
	}
	return m, nil
}

func readBody(s *Spool, id string) (string, error) {
	b, err := s.Body(id)
	if err != nil {
		return "", err
	}
	defer b.Close()
	var buf bytes.Buffer
	_, err = io.Copy(&buf, io.NewSectionReader(b, 0, b.Size()))
	return buf.String(), err
}

// difference says how two models differ, "" if they do not.
func (m model) difference(want model) string {
	var b strings.Builder
	for id, w := range want {
		if g, ok := m[id]; !ok {
			fmt.Fprintf(&b, "%s is missing\n", id)
		} else if g.body != w.body {
			fmt.Fprintf(&b, "%s has another body: %d bytes for %d\n", id, len(g.body), len(w.body))
		} else if !reflect.DeepEqual(g.Message, w.Message) {
			fmt.Fprintf(&b, "%s is %+v\n\twant %+v\n", id, g.Message, w.Message)
		}
	}
	for id := range m {
		if _, ok := want[id]; !ok {
			fmt.Fprintf(&b, "%s should not be there\n", id)
		}
	}
	return b.String()
}

func check(t *testing.T, s *Spool, want model) {
	t.Helper()
	got, err := holds(s, "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := got.difference(want); diff != "" {
		t.Fatal(diff)
	}
}

func open(t testing.TB, opts Options) *Spool {
	t.Helper()
	dir := "/spool"
	if opts.files == nil {
		t.Fatal("no disk")
	}
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error is %v, want %v", err, target)
	}
}
