package migrate

import (
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/redisstore"
	"github.com/consentgate/consentgate/consent/storetest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// place is a store to open.
type place struct {
	file, url string
}

func (p place) open(t testing.TB, ring *keyring.Ring, role redisstore.Role) Store {
	t.Helper()
	var s Store
	var err error
	switch {
	case p.file != "" && role == redisstore.None:
		s, err = boltstore.Open(p.file, ring)
	case p.file != "":
		s, err = boltstore.OpenMoving(p.file, ring)
	default:
		s, err = redisstore.Open(p.url, ring, redisstore.Options{Log: quiet, Moving: role})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// places are the kinds of store, each made when it is called for.
func aFile(t testing.TB) place    { return place{file: filepath.Join(t.TempDir(), "consent.db")} }
func aRedis(t testing.TB) place   { return place{url: "redis://" + storetest.RedisServer(t) + "/0"} }
func aCluster(t testing.TB) place { return place{url: "redis+cluster://" + storetest.RedisCluster(t)} }

// openServed opens a store as a gateway does that remembers in known what it worked with, and says what is wrong.
func openServed(t testing.TB, p place, ring *keyring.Ring, known string) error {
	if p.file != "" {
		s, err := boltstore.OpenKnown(p.file, ring, known, quiet)
		if err != nil {
			return err
		}
		defer s.Close()
		return s.Ping(t.Context())
	}
	s, err := redisstore.Open(p.url, ring, redisstore.Options{Known: known, Log: quiet})
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Ping(t.Context())
}
