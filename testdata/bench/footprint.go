package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/redisstore"
)

const footprintPeople = 50_000

// profiles are people as there are many, each with their only event but for the last.
var profiles = []struct {
	name    string
	changes []consent.Change
}{
	{"one scope, imported: opens and clicks", []consent.Change{
		{Scope: lookupScope, Open: consent.Granted, Click: consent.Denied, Source: consent.FromImport, Notice: "2026-03"}}},
	{"one scope, unsubscribed by one click", []consent.Change{
		{Scope: lookupScope, Mail: consent.Unsubscribed, Source: consent.FromOneClick}}},
	{"one scope, mail, opens and clicks on the page, longer notice", []consent.Change{
		{Scope: lookupScope, Mail: consent.Subscribed, Open: consent.Granted, Click: consent.Granted, Source: consent.FromPage, Notice: "privacy-2026-03-01"}}},
	{"two scopes, two events", []consent.Change{
		{Scope: lookupScope, Open: consent.Granted, Click: consent.Denied, Source: consent.FromPage, Notice: "2026-03"},
		{Scope: "offers", Mail: consent.Unsubscribed, Source: consent.FromOneClick}}},
}

// measureFootprint fills an empty database with one kind of people after the other.
func (s *site) measureFootprint(ctx context.Context, b *strings.Builder) error {
	fmt.Fprintf(b, "\n## Redis memory a person\n\nBytes, over %d people of a kind, addresses of %d characters. First as MEMORY USAGE says, then what Redis' used_memory grows by a person (that\n"+
		"counts its table of keys too, and what the allocator rounds up; without its clients' buffers).\n\n", footprintPeople, len(person(footprintPeople)))
	table := [][]string{{"", "record", "event(s)", "record, used_memory", "event(s), used_memory", "aim for the record", "encoding"}}
	for i, p := range profiles {
		fmt.Fprintf(os.Stderr, "memory: %s\n", p.name)
		line, err := s.footprint(ctx, p.changes)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		line[0] = p.name
		if i == 0 {
			line[5] = "300"
		}
		table = append(table, line)
	}
	writeTable(b, table)
	return nil
}

func (s *site) footprint(ctx context.Context, template []consent.Change) (line []string, err error) {
	store, err := redisstore.Open("redis://"+s.redisAddr+"/3", s.ring, redisstore.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	client := redis.NewClient(&redis.Options{Addr: s.redisAddr, DB: 3})
	defer client.Close()
	var changes []consent.Change
	for i := range footprintPeople {
		who, err := consent.ParseAddress(person(i))
		if err != nil {
			return nil, err
		}
		for _, c := range template {
			c.Who, c.Time = who, time.Date(2026, 3, 1, 9, 30, i%60, 0, time.UTC)
			changes = append(changes, c)
		}
	}
	empty, err := usedMemory(ctx, client)
	if err != nil {
		return nil, err
	}
	if err := apply(ctx, store, changes); err != nil {
		return nil, err
	}
	full, err := usedMemory(ctx, client)
	if err != nil {
		return nil, err
	}
	kept, err := read(ctx, client, store, 0, footprintPeople)
	if err != nil {
		return nil, err
	}
	record, events, err := memoryUsage(ctx, client, kept)
	if err != nil {
		return nil, err
	}
	encoding, err := client.ObjectEncoding(ctx, kept[0].key).Result()
	if err != nil {
		return nil, err
	}
	if err := client.Do(ctx, "flushdb", "sync").Err(); err != nil {
		return nil, err
	}
	// The records alone, once more.
	before, err := usedMemory(ctx, client)
	if err != nil {
		return nil, err
	}
	if err := write(ctx, client, kept); err != nil {
		return nil, err
	}
	records, err := usedMemory(ctx, client)
	if err != nil {
		return nil, err
	}
	if err := client.Do(ctx, "flushdb", "sync").Err(); err != nil {
		return nil, err
	}
	one := func(sum int64) string { return fmt.Sprintf("%.0f", float64(sum)/footprintPeople) }
	return []string{"", one(record), one(events), one(records - before), one(full - empty - (records - before)), "", encoding}, nil
}

// memoryUsage adds up what Redis says of the keys of people.
func memoryUsage(ctx context.Context, client *redis.Client, people []hash) (record, events int64, err error) {
	for len(people) > 0 {
		n := min(loadBatch, len(people))
		pipe := client.Pipeline()
		var replies [2][]*redis.IntCmd
		for _, h := range people[:n] {
			replies[0] = append(replies[0], pipe.MemoryUsage(ctx, h.key, 0))
			replies[1] = append(replies[1], pipe.MemoryUsage(ctx, h.key+":history", 0))
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return 0, 0, err
		}
		for i := range n {
			record += replies[0][i].Val()
			events += replies[1][i].Val()
		}
		people = people[n:]
	}
	return record, events, nil
}

// usedMemory is what Redis has allocated, the buffers of its clients aside.
func usedMemory(ctx context.Context, client *redis.Client) (int64, error) {
	info, err := client.Info(ctx, "memory").Result()
	if err != nil {
		return 0, err
	}
	value := func(name string) (n int64) {
		for line := range strings.Lines(info) {
			if text, ok := strings.CutPrefix(line, name+":"); ok {
				n, err = strconv.ParseInt(strings.TrimSpace(text), 10, 64)
				return n
			}
		}
		err = fmt.Errorf("INFO memory does not say %s", name)
		return 0
	}
	used := value("used_memory") - value("mem_clients_normal")
	return used, err
}
