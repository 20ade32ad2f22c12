package boltstore

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/consentgate/consentgate/consent"
)

// readLast reads a person with the last two events alone.
func readLast(tx *bolt.Tx, k consent.Key) *consent.Held {
	h := &consent.Held{Key: k, Fields: fields(tx, k)}
	c, key, text := lastEvent(tx, k)
	for ; bytes.HasPrefix(key, k[:]) && len(h.Events) < 2; key, text = c.Prev() {
		h.Events = slices.Insert(h.Events, 0, string(text))
	}
	return h
}

// readAll reads a person with the whole history.
func readAll(tx *bolt.Tx, k consent.Key) *consent.Held {
	h := &consent.Held{Key: k, Fields: fields(tx, k)}
	c := tx.Bucket(historyBucket).Cursor()
	for key, text := c.Seek(k[:]); bytes.HasPrefix(key, k[:]); key, text = c.Next() {
		h.Events = append(h.Events, string(text))
	}
	return h
}

func fields(tx *bolt.Tx, k consent.Key) map[string]string {
	all := map[string]string{}
	c := tx.Bucket(recordsBucket).Cursor()
	for key, text := c.Seek(k[:]); bytes.HasPrefix(key, k[:]); key, text = c.Next() {
		all[string(key[len(k):])] = string(text)
	}
	return all
}

// lastEvent returns a cursor at the last event, and a nil key where there is none.
func lastEvent(tx *bolt.Tx, k consent.Key) (c *bolt.Cursor, key, text []byte) {
	c = tx.Bucket(historyBucket).Cursor()
	if key, _ = c.Seek(eventKey(k, math.MaxUint64)); key == nil {
		key, text = c.Last()
	} else {
		key, text = c.Prev()
	}
	if !bytes.HasPrefix(key, k[:]) {
		return c, nil, nil
	}
	return c, key, text
}

func eventKey(k consent.Key, n uint64) []byte {
	return binary.BigEndian.AppendUint64(bytes.Clone(k[:]), n)
}

// write does what u says. bbolt holds on to the key of a Put until the commit, so each is a slice
// of its own.
func write(tx *bolt.Tx, k consent.Key, u consent.Update) error {
	records := tx.Bucket(recordsBucket)
	for name, text := range u.Fields {
		key := append(bytes.Clone(k[:]), name...)
		var err error
		if text == "" {
			err = records.Delete(key)
		} else {
			err = records.Put(key, []byte(text))
		}
		if err != nil {
			return err
		}
	}
	history := tx.Bucket(historyBucket)
	if u.Replace {
		c := history.Cursor()
		for key, _ := c.Seek(k[:]); bytes.HasPrefix(key, k[:]); key, _ = c.Seek(k[:]) {
			if err := c.Delete(); err != nil {
				return err
			}
		}
	}
	n := uint64(0)
	if _, key, _ := lastEvent(tx, k); key != nil {
		n = binary.BigEndian.Uint64(key[len(k):])
	}
	for _, text := range u.Events {
		n++
		if err := history.Put(eventKey(k, n), []byte(text)); err != nil {
			return err
		}
	}
	return nil
}
