package spool

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// A segment is a run of batches, from its first byte on, and zeros behind them. A batch counts as
// a whole or not at all. All numbers are big-endian; every CRC is CRC32C.
//
//	batch:   mark 8 | version 1 | 0 3 | length of the records 4 | CRC 4 | records | CRC 4
//	record:  mark 8 | kind 1 | 0 3 | length of the JSON 4 | of the body 4 | CRC of the body 4 | CRC 4 | JSON | body
//
// A batch's first CRC is over its offset in the segment (8 bytes) and what stands before the CRC,
// its second over all before it. A record's CRC is over what stands before it and the JSON.
// The CRC of the body is that of big/ID.eml where the body is there.
//
// The mark is made anew at random for each segment and stands in the file's name. So nothing
// that somebody writes into a mail can be taken for a batch or a record when a damaged segment is
// searched for what is whole, nor can what was on the disk before.
const (
	version = 1

	markLen     = 8
	batchHead   = markLen + 4 + 4 + 4
	batchTail   = 4
	recordHead  = markLen + 4 + 4 + 4 + 4 + 4
	sealLen     = batchHead + recordHead + batchTail
	maxUint32   = 1<<32 - 1
	segmentTail = ".seg"
)

type mark [markLen]byte

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crc(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

func segmentName(number uint64, m mark) string {
	return fmt.Sprintf("%08d-%x%s", number, m[:], segmentTail)
}

func parseSegmentName(name string) (number uint64, m mark, ok bool) {
	base, isSegment := strings.CutSuffix(name, segmentTail)
	digits, hexMark, _ := strings.Cut(base, "-")
	number, err := strconv.ParseUint(digits, 10, 64)
	raw, hexErr := hex.DecodeString(hexMark)
	if !isSegment || err != nil || hexErr != nil || len(raw) != markLen {
		return 0, mark{}, false
	}
	m = mark(raw)
	return number, m, segmentName(number, m) == name
}

func (r *record) length() int64 { return recordHead + int64(len(r.meta)) + int64(len(r.body)) }

func batchLength(recs []record) int64 {
	n := int64(batchHead + batchTail)
	for i := range recs {
		n += recs[i].length()
	}
	return n
}

// appendBatch appends the batch that is to stand at offset at of the segment with mark m. Each
// place is that of the record, from the start of the batch.
func appendBatch(b []byte, m mark, at int64, recs []record) (batch []byte, places []place) {
	start := len(b)
	b = append(b, m[:]...)
	b = append(b, version, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(batchLength(recs)-batchHead-batchTail))
	b = binary.BigEndian.AppendUint32(b, headCRC(at, b[start:]))
	places = make([]place, len(recs))
	for i := range recs {
		r := &recs[i]
		from := len(b)
		b = append(b, m[:]...)
		b = append(b, byte(r.kind), 0, 0, 0)
		b = binary.BigEndian.AppendUint32(b, uint32(len(r.meta)))
		b = binary.BigEndian.AppendUint32(b, uint32(len(r.body)))
		b = binary.BigEndian.AppendUint32(b, r.sum)
		b = binary.BigEndian.AppendUint32(b, recordCRC(b[from:], r.meta))
		b = append(b, r.meta...)
		places[i] = place{body: at + int64(len(b)-start), length: r.length()}
		b = append(b, r.body...)
	}
	return binary.BigEndian.AppendUint32(b, crc(b[start:])), places
}

func headCRC(at int64, head []byte) uint32 {
	var offset [8]byte
	binary.BigEndian.PutUint64(offset[:], uint64(at))
	return crc32.Update(crc(offset[:]), castagnoli, head)
}

func recordCRC(head, meta []byte) uint32 { return crc32.Update(crc(head), castagnoli, meta) }

// found is a record that was read.
type found struct {
	record
	id string
	at place
}

type span struct{ from, to int64 }

// scanned is what a segment holds.
type scanned struct {
	records []found
	bad     []span // damaged ranges; what is whole in them is among the records
	end     int64  // of the last batch
	tail    int64  // where what is behind the last batch ends; equal to end where there is nothing
	sealed  bool
}

// scan reads a segment. The only error is ErrNewer, wrapped.
func scan(data []byte, m mark) (scanned, error) {
	var s scanned
	for off := int64(0); ; {
		end, err := readBatch(data, off, m)
		if err != nil {
			return scanned{}, err
		}
		if end == 0 {
			start := off
			if off, end, err = nextBatch(data, off, m); err != nil {
				return scanned{}, err
			}
			if end == 0 {
				s.end, s.tail = start, start+int64(len(bytes.TrimRight(data[start:], "\x00")))
				return s, nil
			}
			s.bad = append(s.bad, span{start, off})
			if err := s.salvage(data[:off], start, m); err != nil {
				return scanned{}, err
			}
		}
		s.sealed = false
		for at := off + batchHead; at < end-batchTail; {
			r, next, ok := readRecord(data[:end-batchTail], at, m)
			if ok {
				err = s.add(r)
			}
			if !ok || err == errMeta {
				// The batch is as it was written, so it was written wrong.
				s.bad = append(s.bad, span{at, end})
				break
			}
			if err != nil {
				return scanned{}, err
			}
			at = next
		}
		off = end
	}
}

func (s *scanned) add(r found) error {
	id, err := r.decode()
	if err != nil {
		return err
	}
	if r.kind == kindSeal {
		s.sealed = true
		return nil
	}
	r.id = id
	s.records = append(s.records, r)
	return nil
}

// salvage looks for whole records from off on, where no whole batch is. A message whose
// body is damaged is taken too, as such: its sender can be told.
func (s *scanned) salvage(data []byte, off int64, m mark) error {
	for {
		i := bytes.Index(data[off:], m[:])
		if i < 0 {
			return nil
		}
		off += int64(i)
		r, next, ok := readRecord(data, off, m)
		if !ok || r.kind == kindSeal {
			off++
			continue
		}
		if err := s.add(r); err != nil && err != errMeta {
			return err
		}
		off = next
	}
}

// nextBatch looks for a batch behind off. No batch: an end of 0.
func nextBatch(data []byte, off int64, m mark) (at, end int64, err error) {
	for at = off + 1; at < int64(len(data)); at++ {
		i := bytes.Index(data[at:], m[:])
		if i < 0 {
			break
		}
		at += int64(i)
		if end, err = readBatch(data, at, m); end != 0 || err != nil {
			return at, end, err
		}
	}
	return 0, 0, nil
}

// readBatch returns the end of the batch at off, 0 where there is no whole one.
func readBatch(data []byte, off int64, m mark) (end int64, err error) {
	if int64(len(data)) < off+batchHead+batchTail || !bytes.Equal(data[off:off+markLen], m[:]) {
		return 0, nil
	}
	head := data[off : off+batchHead]
	if binary.BigEndian.Uint32(head[batchHead-4:]) != headCRC(off, head[:batchHead-4]) {
		return 0, nil
	}
	if v := head[markLen]; v != version {
		return 0, fmt.Errorf("%w (format %d, this one knows %d)", ErrNewer, v, version)
	}
	tail := off + batchHead + int64(binary.BigEndian.Uint32(head[markLen+4:]))
	if tail+batchTail > int64(len(data)) || binary.BigEndian.Uint32(data[tail:]) != crc(data[off:tail]) {
		return 0, nil
	}
	return tail + batchTail, nil
}

// readRecord reads the record at off and says where the search goes on. A body that is not whole
// makes it damaged.
func readRecord(data []byte, off int64, m mark) (r found, next int64, ok bool) {
	size := int64(len(data))
	if size < off+recordHead || !bytes.Equal(data[off:off+markLen], m[:]) {
		return found{}, 0, false
	}
	head := data[off : off+recordHead]
	metaLen := int64(binary.BigEndian.Uint32(head[markLen+4:]))
	bodyLen := int64(binary.BigEndian.Uint32(head[markLen+8:]))
	at := off + recordHead
	if at+metaLen > size || binary.BigEndian.Uint32(head[recordHead-4:]) != recordCRC(head[:recordHead-4], data[at:at+metaLen]) {
		return found{}, 0, false
	}
	r.kind, r.meta = kind(head[markLen]), data[at:at+metaLen]
	r.sum = binary.BigEndian.Uint32(head[markLen+12:])
	from := at + metaLen
	next = from + bodyLen
	r.at = place{body: from, length: next - off}
	if next > size || bodyLen > 0 && crc(data[from:next]) != r.sum {
		r.damaged = true
		return r, from, true
	}
	r.body = data[from:next]
	return r, next, true
}
