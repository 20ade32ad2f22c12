package spool

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

// TestDamage harms segments in every way and place: all messages whose batches are whole are
// there, none with a wrong body, and the damage is named.
func TestDamage(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	opts := Options{SegmentSize: 16 << 10, ReserveSize: 4 << 10, files: d}
	rng := rand.New(rand.NewPCG(5, 5))
	s := open(t, opts)
	m := model{}
	for i := range 40 {
		var news []New
		for j := range 1 + i%3 {
			news = append(news, newMessage(fmt.Sprintf("m%d-%d", i, j), 1, text(rng, rng.IntN(1200))))
		}
		must(t, s.Add(news...))
		m.add(news...)
	}
	d.mu.Lock()
	unsealed := d.copy() // what a kill at this moment leaves
	d.mu.Unlock()
	must(t, s.Close())

	for _, whole := range []*disk{unsealed, d} {
		for round := range 100 {
			c := whole.copy()
			name, seg := someSegment(rng, c)
			from := rng.IntN(len(seg.now))
			to := min(len(seg.now), from+1+rng.IntN(1<<rng.IntN(13)))
			var what string
			switch rng.IntN(4) {
			case 0:
				what, to = "bit", from+1
				seg.now[from] ^= 1 << rng.IntN(8)
			case 1:
				what = "zeros"
				clear(seg.now[from:to])
			case 2:
				what = "noise"
				for i := from; i < to; i++ {
					seg.now[i] = byte(rng.Uint32())
				}
			case 3:
				what, to = "cut", len(seg.now)
				seg.now = seg.now[:from]
			}
			seg.durable = seg.now
			what = fmt.Sprintf("round %d: %s in %s from %d to %d", round, what, name, from, to)

			lost := model{}
			for id, at := range batches(t, whole, name) {
				if at.from < int64(to) && int64(from) < at.to {
					lost[id] = m[id]
				}
			}
			opts.files = c
			for range 2 { // what was mended stays so
				s, err := Open("/spool", opts)
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				for id, w := range m {
					_, there := s.Get(id)
					body, err := readBody(s, id)
					switch _, may := lost[id]; {
					case err == nil && body != w.body:
						t.Fatalf("%s: %s has a wrong body", what, id)
					case err == nil:
					case !may:
						t.Fatalf("%s: %s: %v", what, id, err)
					case there && !errors.Is(err, ErrDamaged), !there && !errors.Is(err, ErrNotFound):
						t.Fatalf("%s: %s: %v", what, id, err)
					}
				}
				must(t, s.Add(newMessage("another", 1, "x")))
				must(t, s.Remove("another"))
				must(t, s.Close())
			}
		}
	}
}

func someSegment(rng *rand.Rand, d *disk) (string, *inode) {
	var names []string
	for _, name := range d.names("/spool") {
		if n := d.folders["/spool"].now[name]; strings.HasSuffix(name, segmentTail) && len(n.now) > 0 {
			names = append(names, name)
		}
	}
	name := names[rng.IntN(len(names))]
	return name, d.folders["/spool"].now[name]
}

// batches says where the batches of the messages in a segment are.
func batches(t *testing.T, d *disk, name string) map[string]span {
	t.Helper()
	_, mk, _ := parseSegmentName(name)
	data := d.folders["/spool"].now[name].now
	at := map[string]span{}
	for off := int64(0); ; {
		end, err := readBatch(data, off, mk)
		must(t, err)
		if end == 0 {
			return at
		}
		for from := off + batchHead; from < end-batchTail; {
			r, next, ok := readRecord(data, from, mk)
			if !ok {
				t.Fatal("no record")
			}
			id, err := r.decode()
			must(t, err)
			at[id] = span{off, end}
			from = next
		}
		off = end
	}
}

// TestSalvage: what is whole in a damaged batch is kept, and what is not is set aside, once.
func TestSalvage(t *testing.T) {
	d := newDisk(t)
	opts := Options{SegmentSize: 16 << 10, ReserveSize: 4 << 10, files: d}
	s := open(t, opts)
	m := model{}
	news := []New{newMessage("a", 1, "body of a"), newMessage("b", 1, "body of b"), newMessage("c", 1, "body of c")}
	must(t, s.Add(news...))
	m.add(news...)
	must(t, s.Add(newMessage("d", 1, "body of d")))
	m.add(newMessage("d", 1, "body of d"))
	must(t, s.Close())
	_, seg := someSegment(rand.New(rand.NewPCG(1, 1)), d)
	i := strings.Index(string(seg.now), "body of b")
	seg.now[i+3] ^= 1
	seg.durable = seg.now

	s = open(t, opts)
	_, err := s.Body("b")
	want(t, err, ErrDamaged)
	if b, ok := s.Get("b"); !ok || b.Recipients[0].To != "b-0@example.net" {
		t.Error("nobody can be told what became of b")
	}
	must(t, s.Remove("b"))
	delete(m, "b")
	check(t, s, m)
	if bad := d.names("/spool/bad"); len(bad) != 1 {
		t.Errorf("set aside: %q, want one file", bad)
	}
	must(t, s.Close())
	s = open(t, opts)
	check(t, s, m)
}

// TestForgedRecord: a damaged segment is searched for records; one that stands in a mail is none.
func TestForgedRecord(t *testing.T) {
	forged, _ := appendBatch(nil, mark{}, 0, []record{forge(t, "forged")})
	d := newDisk(t)
	opts := Options{SegmentSize: 16 << 10, ReserveSize: 4 << 10, files: d}
	s := open(t, opts)
	must(t, s.Add(newMessage("a", 1, string(forged)), newMessage("b", 1, "b")))
	must(t, s.Add(newMessage("c", 1, "c")))
	must(t, s.Close())
	_, seg := someSegment(rand.New(rand.NewPCG(1, 1)), d)
	seg.now[0] ^= 1
	seg.durable = seg.now
	s = open(t, opts)
	for id, there := range map[string]bool{"a": true, "b": true, "c": true, "forged": false} {
		if _, ok := s.Get(id); ok != there {
			t.Errorf("%s is there: %v", id, ok)
		}
	}
}

func forge(t *testing.T, id string) record {
	t.Helper()
	n := newMessage(id, 1, "")
	r, err := record{kind: kindMessage, message: &n.Message}.written()
	must(t, err)
	return r
}

// TestDamagedBody: damage that comes while the spool is open.
func TestDamagedBody(t *testing.T) {
	for _, size := range []int{100, 2000} {
		d := newDisk(t)
		opts := small(d)
		opts.SegmentSize = 64 << 10
		s := open(t, opts)
		must(t, s.Add(newMessage("a", 1, strings.Repeat("a", size))))
		must(t, s.Add(newMessage("b", 1, strings.Repeat("b", size))))
		d.mu.Lock()
		for _, dir := range []string{"/spool", "/spool/big"} {
			for name, n := range d.folders[dir].now {
				if i := strings.Index(string(n.now), "aaaaaaaa"); i >= 0 && name != "b.eml" {
					n.now[i] = 'x'
				}
			}
		}
		d.mu.Unlock()
		for range 2 {
			_, err := s.Body("a")
			want(t, err, ErrDamaged)
		}
		if body, err := readBody(s, "b"); err != nil || len(body) != size {
			t.Errorf("b: %d bytes, %v", len(body), err)
		}
		if bad := d.names("/spool/bad"); len(bad) != 1 || filepath.Ext(bad[0]) != ".eml" {
			t.Errorf("set aside: %q", bad)
		}
		must(t, s.Remove("a"))
		_, err := s.Body("a")
		want(t, err, ErrNotFound)
	}
}

func TestNewerFormat(t *testing.T) {
	for name, harm := range map[string]func(m mark, at int64, batch []byte) []byte{
		"version": func(m mark, at int64, batch []byte) []byte {
			batch[markLen] = version + 1
			return batchSum(at, batch)
		},
		"kind": func(m mark, at int64, _ []byte) []byte {
			batch, _ := appendBatch(nil, m, at, []record{{kind: 99, meta: []byte("{}")}})
			return batch
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk(t)
			opts := Options{SegmentSize: 16 << 10, ReserveSize: 4 << 10, files: d}
			s := open(t, opts)
			must(t, s.Add(newMessage("a", 1, "a")))
			must(t, s.Close())
			file, seg := someSegment(rand.New(rand.NewPCG(1, 1)), d)
			_, m, _ := parseSegmentName(file)
			at := int64(len(seg.now))
			batch, _ := appendBatch(nil, m, at, []record{forge(t, "b")})
			seg.now = append(seg.now, harm(m, at, batch)...)
			seg.durable = seg.now
			before, ops := d.String(), d.ops
			_, err := Open("/spool", opts)
			want(t, err, ErrNewer)
			if d.String() != before || d.ops > ops+1 { // Mkdir of the folder that is there
				t.Errorf("a spool that is not understood was changed")
			}
		})
	}
}

// batchSum gives a changed batch the CRCs that it needs.
func batchSum(at int64, b []byte) []byte {
	n := len(b)
	putUint32(b[batchHead-4:], headCRC(at, b[:batchHead-4]))
	putUint32(b[n-batchTail:], crc(b[:n-batchTail]))
	return b
}
