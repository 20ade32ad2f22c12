package spool

import (
	"encoding/binary"
	"errors"
	"testing"
)

func putUint32(b []byte, n uint32) { binary.BigEndian.PutUint32(b, n) }

func TestSegmentName(t *testing.T) {
	m := mark{1, 2, 3, 0xff}
	if name := segmentName(17, m); name != "00000017-010203ff00000000.seg" {
		t.Error(name)
	}
	for _, n := range []uint64{0, 1, 99999999, 123456789012} {
		if number, got, ok := parseSegmentName(segmentName(n, m)); !ok || number != n || got != m {
			t.Errorf("%d came back as %d %x %v", n, number, got, ok)
		}
	}
	for _, name := range []string{"", ".seg", "1.seg", "00000017.seg", "17-010203ff00000000.seg", "00000017-010203FF00000000.seg", "00000017-010203ff000000.seg", "00000017-010203ff00000000.seg.new"} {
		if _, _, ok := parseSegmentName(name); ok {
			t.Errorf("%q is taken for a segment", name)
		}
	}
}

// FuzzSegment reads a segment of any content, and opens a spool with it.
func FuzzSegment(f *testing.F) {
	var m mark
	n := newMessage("a", 2, "a body")
	msg, err := record{kind: kindMessage, entry: &entry{id: "a"}, message: &n.Message, body: []byte("a body"), sum: crc([]byte("a body"))}.written()
	must(f, err)
	j := newJob("b", "a body")
	job, err := record{kind: kindJob, entry: &entry{id: "b"}, message: &j.Message, body: []byte("a body"), sum: crc([]byte("a body"))}.written()
	must(f, err)
	update, err := updateRecord(&entry{id: "a"}, []Change{{Index: 1, Done: true}, {Index: 0, Attempts: 1, Reply: "451"}})
	must(f, err)
	whole, _ := appendBatch(nil, m, 0, []record{msg, job, update})
	more, _ := appendBatch(whole, m, int64(len(whole)), []record{update, {kind: kindSeal}})
	f.Add(whole)
	f.Add(more)
	f.Add(more[:len(more)-3])
	f.Add(append(make([]byte, 50), more...))
	f.Add(whole[batchHead:])
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := scan(data, m)
		if err != nil {
			if !errors.Is(err, ErrNewer) {
				t.Fatal(err)
			}
			return
		}
		size := int64(len(data))
		if s.end > s.tail || s.tail > size {
			t.Fatalf("end %d, tail %d of %d", s.end, s.tail, size)
		}
		last := int64(0)
		for _, b := range s.bad {
			if b.from < last || b.to <= b.from || b.to > s.end {
				t.Fatalf("bad %v, end %d", s.bad, s.end)
			}
			last = b.to
		}
		for _, r := range s.records {
			if r.at.body > size || !r.damaged && (r.at.body+int64(len(r.body)) > size || crc(r.body) != r.sum && !r.big) {
				t.Fatalf("record at %+v of %d", r.at, size)
			}
		}
		d := newDisk(t)
		must(t, d.Mkdir("/spool"))
		n := &inode{now: data, durable: data}
		d.folders["/spool"].now[segmentName(1, m)] = n
		d.folders["/spool"].durable[segmentName(1, m)] = n
		spool, err := Open("/spool", small(d))
		must(t, err)
		for _, msg := range append(spool.All(), spool.Jobs()...) {
			if b, err := spool.Body(msg.ID); err == nil {
				must(t, b.Close())
			} else if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
		}
		must(t, spool.Close())
	})
}
