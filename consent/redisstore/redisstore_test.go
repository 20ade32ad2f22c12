package redisstore

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quiet tells nobody that the servers of these tests keep nothing on disk.
var quiet = slog.New(slog.DiscardHandler)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestStoreOnRedis(t *testing.T) {
	addr, _ := server(t, "--databases", "100")
	db := 0
	storetest.Run(t, func(t *testing.T) storetest.Open {
		url := fmt.Sprintf("redis://%s/%d", addr, db)
		db++
		return func(ring *keyring.Ring) (consent.Store, error) { return orNil(Open(url, ring, Options{Log: quiet})) }
	})
}

func orNil(s *Store, err error) (consent.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

func open(t testing.TB, url string, ring *keyring.Ring) *Store {
	t.Helper()
	s, err := Open(url, ring, Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func person(t testing.TB, i int) consent.Address {
	t.Helper()
	a, err := consent.ParseAddress(fmt.Sprintf("Person%d@example.org", i))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func unsubscribe(who consent.Address) []consent.Change {
	return []consent.Change{{Who: who, Scope: "newsletter", Mail: consent.Unsubscribed, Source: consent.FromOneClick, Time: noon}}
}

func TestKeyLayout(t *testing.T) {
	m := miniredis.RunT(t)
	ring := keyring.Ephemeral()
	s := open(t, "redis://"+m.Addr(), ring)
	changes := append(unsubscribe(person(t, 1)), consent.Change{Who: person(t, 1), Scope: "*", Open: consent.Granted,
		Source: consent.FromPage, Notice: "2026-03", Time: noon})
	if _, err := s.Apply(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	key := hashKey(s.Key(person(t, 1)))
	if !strings.HasPrefix(key, "consent:{") || len(key) != len("consent:{}")+43 || !strings.HasSuffix(key, "}") {
		t.Errorf("key %q", key)
	}
	if got := strings.Join(m.Keys(), " "); got != key+" "+key+":history consentgate" {
		t.Errorf("keys %s", got)
	}
	if got, _ := m.Get(marker); !strings.HasPrefix(got, "2 "+ring.Fingerprint()+" ") || len(got) != len("2  ")+22+26 {
		t.Errorf("marker %q", got)
	}
	if got := m.HGet(key, "newsletter"); got != "1\tu1772366400o\t\t" {
		t.Errorf("record %q", got)
	}
	if got := m.HGet(key, "*"); got != "1\t\tg1772366400p2026-03\t" {
		t.Errorf("record of * %q", got)
	}
	if dump := m.Dump(); strings.Contains(dump, "erson1") || strings.Contains(dump, "example.org") {
		t.Errorf("an address stands in Redis:\n%s", dump)
	}
}

func TestMemoryOfOnePerson(t *testing.T) {
	addr, _ := server(t)
	s := open(t, "redis://"+addr, keyring.Ephemeral())
	c := consent.Change{Who: person(t, 1), Scope: "newsletter", Mail: consent.Subscribed, Open: consent.Granted, Click: consent.Denied,
		Source: consent.FromPage, Notice: "2026-03", Time: noon}
	if _, err := s.Apply(t.Context(), []consent.Change{c}); err != nil {
		t.Fatal(err)
	}
	rdb := bare(t, addr)
	key := hashKey(s.Key(person(t, 1)))
	bytes, err := rdb.MemoryUsage(t.Context(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	history, err := rdb.MemoryUsage(t.Context(), listKey(s.Key(person(t, 1)))).Result()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes of Redis memory for a person with one scope, and %d for the first entry of the history", bytes, history)
	if bytes > 300 {
		t.Errorf("%d bytes for one person, want at most 300", bytes)
	}
	if enc := rdb.ObjectEncoding(t.Context(), key).Val(); enc != "listpack" {
		t.Errorf("encoding %q", enc)
	}
}

func TestUnixSocketAndPassword(t *testing.T) {
	_, socket := server(t, "--requirepass", "p@ss:w/ord")
	for _, scheme := range []string{"unix", "redis+unix"} {
		s := open(t, scheme+"://:p%40ss%3Aw%2Ford@"+socket+"?db=3", keyring.Ephemeral())
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("%s: %v", scheme, err)
		}
		s.rdb.FlushDB(t.Context())
	}
	s := open(t, "redis+unix://"+socket, keyring.Ephemeral())
	if err := s.Ping(t.Context()); !errors.Is(err, consent.ErrUnreachable) || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("without the password: %v", err)
	}
}

func TestURLs(t *testing.T) {
	for url, want := range map[string]string{
		"redis://a:1,b:2/0":                      "several hosts",
		"redis+sentinel://a:26379":               "no master",
		"redis+sentinel://a:26379/x/y":           "no master",
		"redis+cluster://a:7000/1":               "one database",
		"file:/var/lib/consent.db":               "no URL",
		"":                                       "no URL",
		"http://127.0.0.1":                       `kind "http"`,
		"127.0.0.1:6379":                         "no URL",
		"redis://:se%cret@127.0.0.1":             "no URL",
		"redis://:se^cret@127.0.0.1:port":        "no URL",
		"redis://:secret@127.0.0.1/zero":         "database",
		"redis://:secret@127.0.0.1/0?nonsense=1": "nonsense",
	} {
		s, err := Open(url, keyring.Ephemeral(), Options{Log: quiet})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
		if err == nil {
			s.Close()
		} else if strings.Contains(err.Error(), "cret") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error shows the password: %v", url, err)
		}
	}
	c, err := client("rediss://u:p@redis.example:6380/2?read_timeout=2s", time.Second, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if o := c.(*redis.Client).Options(); o.TLSConfig == nil || o.ReadTimeout != 3*time.Second || o.DialTimeout != dialTimeout || o.DB != 2 {
		t.Errorf("%+v", o)
	}
}

// soon waits until f succeeds, which it must within a second.
func soon(t *testing.T, what string, f func() error) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); ; <-tick.C {
		err := f()
		if err == nil {
			return
		}
		if time.Since(begin) > time.Second {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// quick fails where f takes longer than a mail may be made to wait.
func quick(t *testing.T, what string, f func()) {
	t.Helper()
	begin := time.Now()
	f()
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("%s took %v", what, d)
	}
}

func TestDownAtStartThenUp(t *testing.T) {
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	addr := m.Addr()
	m.Close()
	ring := keyring.Ephemeral()
	var s *Store
	quick(t, "Open", func() { s = open(t, "redis://"+addr, ring) })
	quick(t, "calls while down", func() {
		rs, err := s.Lookup(t.Context(), "newsletter", []consent.Address{person(t, 1), person(t, 2)})
		if !errors.Is(err, consent.ErrUnreachable) || len(rs) != 2 || !errors.Is(rs[1].Err, consent.ErrUnreachable) {
			t.Errorf("Lookup: %+v, %v", rs, err)
		}
		if _, err := s.Apply(t.Context(), unsubscribe(person(t, 1))); !errors.Is(err, consent.ErrUnreachable) {
			t.Errorf("Apply: %v", err)
		}
		if err := s.Ping(t.Context()); !errors.Is(err, consent.ErrUnreachable) {
			t.Errorf("Ping: %v", err)
		}
	})
	if err := m.StartAddr(addr); err != nil {
		t.Skip("the port was taken meanwhile: ", err)
	}
	defer m.Close()
	soon(t, "after Redis came up", func() error { return s.Ping(t.Context()) })
	if rs, err := s.Apply(t.Context(), unsubscribe(person(t, 1))); err != nil || rs[0].Err != nil {
		t.Errorf("after Redis came up: %+v, %v", rs, err)
	}
}

// Connections that went stale while the server was restarted cost nobody an answer.
func TestRestartedServer(t *testing.T) {
	m := miniredis.RunT(t)
	s := open(t, "redis://"+m.Addr(), keyring.Ephemeral())
	for range 3 {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if rs, err := s.Apply(t.Context(), unsubscribe(person(t, i))); err != nil || rs[0].Err != nil {
					t.Errorf("Apply: %+v, %v", rs, err)
				}
			})
		}
		wg.Wait()
		m.Close()
		if err := m.Restart(); err != nil {
			t.Skip("the port was taken meanwhile: ", err)
		}
	}
	if rs, err := s.Lookup(t.Context(), "newsletter", []consent.Address{person(t, 7)}); err != nil || rs[0].Scope.Mail.State != consent.Unsubscribed {
		t.Errorf("Lookup: %+v, %v", rs, err)
	}
}

// A server that takes connections and never says a word.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	quick(t, "a silent server", func() {
		s := open(t, "redis://"+l.Addr().String(), keyring.Ephemeral())
		if _, err := s.Lookup(t.Context(), "newsletter", []consent.Address{person(t, 1)}); !errors.Is(err, consent.ErrUnreachable) {
			t.Errorf("Lookup: %v", err)
		}
	})
}

func TestForeignWhileRunning(t *testing.T) {
	m := miniredis.RunT(t)
	s := open(t, "redis://"+m.Addr(), keyring.Ephemeral())
	m.FlushAll()
	other := open(t, "redis://"+m.Addr(), keyring.Ephemeral())
	rs, err := s.Lookup(t.Context(), "newsletter", []consent.Address{person(t, 1)})
	if !errors.Is(err, consent.ErrForeign) || !errors.Is(rs[0].Err, consent.ErrForeign) {
		t.Errorf("Lookup: %+v, %v", rs, err)
	}
	rs, err = s.Apply(t.Context(), unsubscribe(person(t, 1)))
	if !errors.Is(err, consent.ErrForeign) || !errors.Is(rs[0].Err, consent.ErrForeign) {
		t.Errorf("Apply: %+v, %v", rs, err)
	}
	if err := s.Ping(t.Context()); !errors.Is(err, consent.ErrForeign) {
		t.Errorf("Ping: %v", err)
	}
	if n := len(m.Keys()); n != 1 {
		t.Errorf("%d keys: something was written", n)
	}
	if err := other.Ping(t.Context()); err != nil {
		t.Errorf("the owner: %v", err)
	}
}

func TestLostDataIsNotAnEmptyStore(t *testing.T) {
	m := miniredis.RunT(t)
	s := open(t, "redis://"+m.Addr(), keyring.Ephemeral())
	if _, err := s.Apply(t.Context(), unsubscribe(person(t, 1))); err != nil {
		t.Fatal(err)
	}
	m.FlushAll()
	if rs, err := s.Lookup(t.Context(), "newsletter", []consent.Address{person(t, 1)}); !errors.Is(err, consent.ErrUnreachable) || rs[0].Err == nil {
		t.Errorf("Lookup: %+v, %v", rs, err)
	}
	if err := s.Ping(t.Context()); !errors.Is(err, consent.ErrUnreachable) {
		t.Errorf("Ping: %v", err)
	}
	if _, err := s.Apply(t.Context(), unsubscribe(person(t, 1))); !errors.Is(err, consent.ErrUnreachable) || len(m.Keys()) != 0 {
		t.Errorf("Apply: %v, keys %v", err, m.Keys())
	}
}

func TestOtherLayout(t *testing.T) {
	m := miniredis.RunT(t)
	m.Set(marker, "1 whatever")
	if s, err := Open("redis://"+m.Addr(), keyring.Ephemeral(), Options{Log: quiet}); err == nil || !strings.Contains(err.Error(), `layout "1"`) {
		t.Error(err)
		if err == nil {
			s.Close()
		}
	}
}

func TestScriptIsLoadedAgain(t *testing.T) {
	addr, _ := server(t)
	s := open(t, "redis://"+addr, keyring.Ephemeral())
	who := person(t, 1)
	changes := make([]consent.Change, 2*maxPipeline)
	for i := range changes {
		changes[i] = consent.Change{Who: who, Scope: "newsletter", Open: consent.Granted, Source: consent.FromAPI, Notice: fmt.Sprint(i), Time: noon}
	}
	for range 2 {
		if err := s.rdb.(*redis.Client).ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		rs, err := s.Apply(t.Context(), changes)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range rs {
			if r.Err != nil || r.Scope.Open.Notice != fmt.Sprint(i) {
				t.Fatalf("change %d: %+v", i, r)
			}
		}
	}
}

func TestGarbageIsThatPersonsError(t *testing.T) {
	addr, _ := server(t)
	s := open(t, "redis://"+addr, keyring.Ephemeral())
	rdb := bare(t, addr)
	bad, good := person(t, 1), person(t, 2)
	key := hashKey(s.Key(bad))
	check := func(what string) {
		t.Helper()
		rs, err := s.Lookup(t.Context(), "newsletter", []consent.Address{bad, good})
		if err != nil || rs[0].Err == nil || rs[0].Scope.Scope != "" || rs[1].Err != nil {
			t.Errorf("%s: Lookup: %+v, %v", what, rs, err)
		}
		if errors.Is(rs[0].Err, consent.ErrUnreachable) {
			t.Errorf("%s: called unreachable: %v", what, rs[0].Err)
		}
		before := rdb.Dump(t.Context(), key).Val()
		rs, err = s.Apply(t.Context(), append(unsubscribe(bad), unsubscribe(good)...))
		if err != nil || rs[0].Err == nil || rs[1].Err != nil {
			t.Errorf("%s: Apply: %+v, %v", what, rs, err)
		}
		if rdb.Dump(t.Context(), key).Val() != before {
			t.Errorf("%s: Apply touched it", what)
		}
	}
	for _, field := range []string{"newsletter", "*"} {
		for _, text := range []string{
			"garbage", "\t\t\t", "0\t\t\t", "01\t\t\t", "-1\t\t\t", "1\t\t", "1\t\t\t\t", "1\tu1o\t\tx", "1\tg1o\t\t", "1\t\tu1o\t",
			"1\tu0o\t\t", "1\tuo\t\t", "1\tu1\t\t", "1\tu1x\t\t", "1\tu-1o\t\t", "1\tu1oä\t\t", "1\t\tg1o\n\t",
			"1\tu1o" + strings.Repeat("x", 65) + "\t\t", "1\tu1234567890123o\t\t", "x1\t\t\t", "1 \t\t\t",
		} {
			if err := rdb.Del(t.Context(), key).Err(); err != nil {
				t.Fatal(err)
			}
			if err := rdb.HSet(t.Context(), key, field, text).Err(); err != nil {
				t.Fatal(err)
			}
			check(fmt.Sprintf("%s %q", field, text))
		}
	}
	if err := rdb.Set(t.Context(), key, "1\tu1o\t\t", 0).Err(); err != nil {
		t.Fatal(err)
	}
	check("a string instead of a hash")
}

func TestReadOnlyReplicaNeverConfirms(t *testing.T) {
	addr, _ := server(t)
	ring := keyring.Ephemeral()
	s := open(t, "redis://"+addr, ring)
	// A replica of a server that is not there any more still answers what it has, and takes no writes.
	rdb := bare(t, addr)
	if err := rdb.ConfigSet(t.Context(), "min-replicas-to-write", "1").Err(); err != nil {
		t.Fatal(err)
	}
	rs, err := s.Apply(t.Context(), unsubscribe(person(t, 1)))
	if err != nil || !errors.Is(rs[0].Err, consent.ErrUnreachable) {
		t.Errorf("Apply: %+v, %v", rs, err)
	}
}

// Redis takes twice the memory for a hash with a value of over 64 bytes.
func TestPersonIsSmall(t *testing.T) {
	addr, _ := server(t)
	s := open(t, "redis://"+addr, keyring.Ephemeral())
	who := person(t, 1)
	c := consent.Change{Who: who, Scope: "newsletter", Mail: consent.Subscribed, Open: consent.Granted, Click: consent.Granted,
		Source: consent.FromPage, Notice: "privacy-policy-2026-03-01", Time: noon}
	if rs, err := s.Apply(t.Context(), []consent.Change{c}); err != nil || rs[0].Err != nil {
		t.Fatal(rs, err)
	}
	rdb, key := bare(t, addr), hashKey(s.Key(who))
	if got := rdb.ObjectEncoding(t.Context(), key).Val(); got != "listpack" {
		t.Errorf("the person is kept as %s", got)
	}
	if got := rdb.MemoryUsage(t.Context(), key, 0).Val(); got == 0 || got >= 300 {
		t.Errorf("the person takes %d bytes", got)
	}
}
