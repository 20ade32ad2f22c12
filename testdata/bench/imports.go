package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	bolt "go.etcd.io/bbolt"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/redisstore"
	"github.com/consentgate/consentgate/consent/transfer"
)

const (
	importRounds = 5
	importPeople = 20_000 // a round and a way
	loadBatch    = 1000   // keys that the bare load puts into a pipeline
)

// measureImports imports people who were never seen, so that each is looked up and written with a
// first event.
func (s *site) measureImports(ctx context.Context, b *strings.Builder) (err error) {
	redisStore, err := redisstore.Open("redis://"+s.redisAddr+"/1", s.ring, redisstore.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, redisStore.Close()) }()
	path := filepath.Join(s.dir, "import.db")
	file, err := boltstore.Open(path, s.ring)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	own := redis.NewClient(&redis.Options{Addr: s.redisAddr, DB: 1})
	defer own.Close()
	bare := redis.NewClient(&redis.Options{Addr: s.redisAddr, DB: 2})
	defer bare.Close()

	type way struct {
		name   string
		store  consent.Store
		format transfer.Format
		rate   []float64
		ratio  []float64
	}
	ways := []*way{{name: "NDJSON into Redis", store: redisStore, format: transfer.NDJSON}, {name: "CSV into Redis", store: redisStore, format: transfer.CSV},
		{name: "NDJSON into the file", store: file, format: transfer.NDJSON}, {name: "CSV into the file", store: file, format: transfer.CSV}}
	load := &way{name: "bare load"}
	next := 0
	for round := range importRounds {
		fmt.Fprintf(os.Stderr, "imports: round %d\n", round+1)
		var bareRate float64
		for i, w := range ways {
			text := people(w.format, next, importPeople)
			start := time.Now()
			err := importText(ctx, w.store, w.format, text, importPeople)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			w.rate = append(w.rate, importPeople/time.Since(start).Seconds())
			if i == 0 {
				loaded, err := read(ctx, own, redisStore, next, importPeople)
				if err != nil {
					return err
				}
				start := time.Now()
				if err := write(ctx, bare, loaded); err != nil {
					return fmt.Errorf("bare load: %w", err)
				}
				bareRate = importPeople / time.Since(start).Seconds()
				load.rate = append(load.rate, bareRate)
				load.ratio = append(load.ratio, 1)
			}
			w.ratio = append(w.ratio, w.rate[round]/bareRate)
			next += importPeople
		}
	}
	for _, db := range []*redis.Client{own, bare} {
		if err := db.Do(ctx, "flushdb", "sync").Err(); err != nil {
			return err
		}
	}

	fmt.Fprintf(b, "\n## Imports\n\nOf people never seen, one scope, opens granted and clicks denied under a notice; medians of %d rounds of %d people each, into stores that fill up to %d.\n"+
		"Each is looked up, and written with a first event in a chain. The bare load is go-redis with HSETs of the same keys, fields and values, %d a pipeline: no lookup, no HMAC, no sealing, no event, no script.\n\n",
		importRounds, importPeople, 2*importRounds*importPeople, loadBatch)
	table := [][]string{{"", "people/s", "beside the bare load"}}
	for _, w := range append([]*way{load}, ways...) {
		table = append(table, []string{w.name, fmt.Sprintf("%.0f", median(w.rate)), fmt.Sprintf("%.2f", median(w.ratio))})
	}
	writeTable(b, table)
	if err := file.Close(); err != nil {
		return err
	}
	return boltFootprint(b, path, 2*importRounds*importPeople)
}

// people are lines for an import, from the person first on.
func people(format transfer.Format, first, n int) string {
	var b strings.Builder
	if format == transfer.CSV {
		b.WriteString("address,scope,open,click,time,notice\n")
	}
	for i := first; i < first+n; i++ {
		if format == transfer.CSV {
			fmt.Fprintf(&b, "%s,newsletter,granted,denied,2026-03-01T09:30:00Z,2026-03\n", person(i))
		} else {
			fmt.Fprintf(&b, `{"address":%q,"scope":"newsletter","open":"granted","click":"denied","time":"2026-03-01T09:30:00Z","notice":"2026-03"}`+"\n", person(i))
		}
	}
	return b.String()
}

func importText(ctx context.Context, store consent.Store, format transfer.Format, text string, want int) error {
	r, err := transfer.NewReader(strings.NewReader(text), transfer.ReadOptions{Format: format})
	if err != nil {
		return err
	}
	sum, err := transfer.Import(ctx, store, r, transfer.ImportOptions{Now: time.Now, Report: func(n transfer.Note) error {
		return fmt.Errorf("line %d: %s", n.Line, n.Detail)
	}})
	if err == nil && sum.Changed != want {
		err = fmt.Errorf("of %d people %d were changed", want, sum.Changed)
	}
	return err
}

// hash is a key with its fields and their values, as HSET takes them.
type hash struct {
	key    string
	values []string
}

// read reads what a store keeps of people, their events aside.
func read(ctx context.Context, client *redis.Client, store consent.Store, first, n int) ([]hash, error) {
	all := make([]hash, 0, n)
	for len(all) < n {
		pipe := client.Pipeline()
		var replies []*redis.MapStringStringCmd
		for range min(loadBatch, n-len(all)) {
			key, err := redisKey(store, first+len(all))
			if err != nil {
				return nil, err
			}
			all = append(all, hash{key: key})
			replies = append(replies, pipe.HGetAll(ctx, key))
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, err
		}
		for i, reply := range replies {
			h := &all[len(all)-len(replies)+i]
			for name, value := range reply.Val() {
				h.values = append(h.values, name, value)
			}
			if len(h.values) == 0 {
				return nil, fmt.Errorf("%s is not there", h.key)
			}
		}
	}
	return all, nil
}

// redisKey is the key of a person's records.
func redisKey(store consent.Store, i int) (string, error) {
	who, err := consent.ParseAddress(person(i))
	return "consent:{" + store.Key(who).String() + "}", err
}

// write is the bare load.
func write(ctx context.Context, client *redis.Client, all []hash) error {
	for len(all) > 0 {
		pipe := client.Pipeline()
		n := min(loadBatch, len(all))
		for _, h := range all[:n] {
			pipe.HSet(ctx, h.key, h.values)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// boltFootprint says what a person takes in the file.
func boltFootprint(b *strings.Builder, path string, n int) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return err
	}
	defer db.Close()
	pages := map[string]int{}
	err = db.View(func(tx *bolt.Tx) error {
		for _, name := range []string{"records", "history"} {
			bucket := tx.Bucket([]byte(name))
			if bucket == nil {
				return fmt.Errorf("the file has no bucket %q", name)
			}
			s := bucket.Stats()
			pages[name] = s.BranchAlloc + s.LeafAlloc
		}
		return nil
	})
	fmt.Fprintf(b, "\nThe file, with these %d people: %d bytes a person; the pages of the records %d, of the first event %d; the rest is free pages, to be used again.\n",
		n, int(info.Size())/n, pages["records"]/n, pages["history"]/n)
	return err
}
