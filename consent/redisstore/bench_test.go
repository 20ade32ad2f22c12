package redisstore

import (
	"context"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

// BenchmarkLookup asks a real server for 1, 10 and 100 people, and beside it does the same with
// a bare go-redis pipeline of as many HMGETs, which is what the network and Redis cost.
func BenchmarkLookup(b *testing.B) {
	addr, _ := server(b)
	s := open(b, "redis://"+addr, keyring.Ephemeral())
	ctx := context.Background()
	var people []consent.Address
	var keys []string
	var changes []consent.Change
	for i := range 100 {
		people = append(people, person(b, i))
		keys = append(keys, hashKey(s.Key(people[i])))
		changes = append(changes, consent.Change{Who: people[i], Scope: "newsletter", Open: consent.Granted, Source: consent.FromAPI, Time: noon})
	}
	if _, err := s.Apply(ctx, changes); err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("store/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if rs, err := s.Lookup(ctx, "newsletter", people[:n]); err != nil || rs[n-1].Scope.Version != 1 {
					b.Fatal(rs, err)
				}
			}
		})
		b.Run(fmt.Sprintf("bare/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				pipe := s.rdb.Pipeline()
				var last *redis.SliceCmd
				for _, k := range keys[:n] {
					last = pipe.HMGet(ctx, k, "newsletter", "*")
				}
				if _, err := pipe.Exec(ctx); err != nil || last.Val()[0] == nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkApply(b *testing.B) {
	addr, _ := server(b)
	s := open(b, "redis://"+addr, keyring.Ephemeral())
	for i := 0; b.Loop(); i++ {
		c := consent.Change{Who: person(b, i%1000), Scope: "newsletter", Open: consent.Granted, Source: consent.FromAPI, Notice: fmt.Sprint(i), Time: noon}
		if rs, err := s.Apply(context.Background(), []consent.Change{c}); err != nil || rs[0].Err != nil {
			b.Fatal(rs, err)
		}
	}
}
