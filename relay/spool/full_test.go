package spool

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestDiskFull has the disk full from every operation on in turn. From then on messages may be
// refused, and only with ErrFull; what becomes of those that are there is written down, until the
// spool is empty. With room again, the spool takes messages and has its reserve.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	refused := 0
	for n := 1; n < 260; n += 4 {
		refused += fillAt(t, n)
	}
	if refused == 0 {
		t.Error("the disk was never full")
	}
}

func fillAt(t *testing.T, n int) (refused int) {
	t.Helper()
	d := newDisk(t)
	opts := small(d)
	opts.ReserveSize = 8 << 10
	rng := rand.New(rand.NewPCG(uint64(n), 7))
	s := open(t, opts)
	m := model{}
	call := func() {
		o := random(rng, m, "m")
		next := m.clone()
		o.model(next)
		err := o.spool(s)
		switch {
		case err == nil:
			m = next
		case o.name == "add" && errors.Is(err, ErrFull):
			refused++
		case errors.Is(err, ErrFull) && len(next) > 0: // an update that adds a big message
			refused++
		default:
			t.Fatalf("full at %d: %s: %v", n, o.name, err)
		}
	}
	for d.count() < n {
		call()
	}
	d.mu.Lock()
	d.room = d.used()
	d.mu.Unlock()
	for range 8 {
		call()
	}
	check(t, s, m)
	must(t, s.Close())
	s = open(t, opts)
	check(t, s, m)
	for _, msg := range append(s.All(), s.Jobs()...) {
		for _, r := range msg.Recipients {
			later := []Change{{Index: r.Index, Attempts: r.Attempts + 1, Due: noon}}
			if err := s.Update(msg.ID, later); err != nil {
				t.Fatalf("full at %d: retry of %s: %v\n%v", n, msg.ID, err, d)
			}
			if err := s.Update(msg.ID, []Change{{Index: r.Index, Done: true}}); err != nil {
				t.Fatalf("full at %d: outcome of %s: %v\n%v", n, msg.ID, err, d)
			}
		}
	}
	check(t, s, model{})

	d.mu.Lock()
	d.room = -1
	d.mu.Unlock()
	m = model{}
	news := newMessage("again", 1, "there is room")
	must(t, s.Add(news))
	m.add(news)
	must(t, s.Close())
	d.mu.Lock()
	reserve := d.folders["/spool"].now[reservePrefix+"1"]
	d.mu.Unlock()
	if reserve == nil || int64(len(reserve.now)) != opts.ReserveSize {
		t.Errorf("full at %d: the reserve was not made again", n)
	}
	s = open(t, opts)
	check(t, s, m)
	must(t, s.Close())
	return refused
}

func (d *disk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// TestDiskFullDrains fills a disk with far more messages than the reserve has room for their
// outcomes, and delivers them in no order: the room that they leave has to be won back.
func TestDiskFullDrains(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	d.room = 400 << 10
	opts := Options{SegmentSize: 32 << 10, ReserveSize: 8 << 10, files: d}
	s := open(t, opts)
	var ids []string
	for i := 0; ; i++ {
		id := fmt.Sprint("m", i)
		err := s.Add(newMessage(id, 1, text(rand.New(rand.NewPCG(1, uint64(i))), 600)))
		if errors.Is(err, ErrFull) {
			break
		}
		must(t, err)
		ids = append(ids, id)
	}
	if len(ids) < 200 {
		t.Fatalf("only %d messages fit", len(ids))
	}
	rand.New(rand.NewPCG(2, 2)).Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	for i, id := range ids {
		if err := s.Update(id, []Change{{Index: 0, Done: true}}); err != nil {
			t.Fatalf("outcome %d of %d: %v\n%v", i, len(ids), err, d)
		}
	}
	check(t, s, model{})
	must(t, s.Add(newMessage("last", 1, "there is room again")))
	must(t, s.Close())
	s = open(t, opts)
	if st := s.Stats(); st.Messages != 1 {
		t.Errorf("%d messages came back", st.Messages-1)
	}
}

// TestSyncFails has every sync in turn fail once: what was to be added is refused or was not hurt,
// outcomes are kept, and no file that failed is written to again (the disk sees to that).
func TestSyncFails(t *testing.T) {
	t.Parallel()
	for n := 1; n < 120; n += 2 {
		d := newDisk(t)
		d.badSync = func(i int) bool { return i == n }
		s, err := Open("/spool", small(d))
		must(t, err)
		rng := rand.New(rand.NewPCG(uint64(n), 9))
		m := model{}
		failed := 0
		for range 50 {
			o := random(rng, m, "m")
			next := m.clone()
			o.model(next)
			switch err := o.spool(s); {
			case err == nil:
				m = next
			case o.name == "add" || len(next) > 0: // a big body
				failed++
			default:
				t.Fatalf("sync %d: %s: %v", n, o.name, err)
			}
		}
		if failed > 1 {
			t.Fatalf("sync %d: %d calls failed", n, failed)
		}
		check(t, s, m)
		s.Close()
		d.restart(nil)
		s = open(t, small(d))
		check(t, s, m)
		must(t, s.Close())
	}
}

// Room says what Add would, and leaves nothing behind.
func TestRoom(t *testing.T) {
	d := newDisk(t)
	opts := small(d)
	s := open(t, opts)
	ask := func(want error) {
		t.Helper()
		for _, size := range []int64{1, opts.BigBody + 1} {
			if err := s.Room(size, 3); !errors.Is(err, want) {
				t.Errorf("%d bytes: %v, want %v", size, err, want)
			}
		}
	}
	ask(nil)
	d.mu.Lock()
	d.room = d.used()
	d.mu.Unlock()
	for n := 0; s.Add(newMessage(fmt.Sprint("m", n), 3, "text")) == nil; n++ {
	}
	ask(ErrFull)
	d.mu.Lock()
	d.room = -1
	d.mu.Unlock()
	ask(nil)
	if names := d.names("/spool/big"); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	must(t, s.Close())
	ask(ErrClosed)
}
