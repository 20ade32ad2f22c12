package redisstore

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/cache"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/storetest"
)

func TestStoreOnCluster(t *testing.T) {
	nodes := clusterOf3(t)
	storetest.Run(t, func(t *testing.T) storetest.Open {
		flush(t, nodes...)
		return func(ring *keyring.Ring) (consent.Store, error) {
			return orNil(Open("redis+cluster://"+addrs(nodes), ring, Options{Log: quiet}))
		}
	})
}

func TestStoreOnSentinel(t *testing.T) {
	master, _ := withReplica(t)
	url := "redis+sentinel://" + addrs(sentinels(t, master)) + "/people?db=3"
	storetest.Run(t, func(t *testing.T) storetest.Open {
		flush(t, master)
		return func(ring *keyring.Ring) (consent.Store, error) { return orNil(Open(url, ring, Options{Log: quiet})) }
	})

	// The master dies, the replica takes its place, and knows what was confirmed.
	flush(t, master)
	ring := keyring.Ephemeral()
	s, err := Open(url, ring, Options{WaitReplicas: 1, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if rs, err := s.Apply(t.Context(), unsubscribe(person(t, 1))); err != nil || rs[0].Err != nil {
		t.Fatal(rs, err)
	}
	keys, err := s.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	master.stop()
	for range keys { // until it is closed
	}
	storetest.Eventually(t, "after the failover", func() error {
		rs, err := s.Lookup(t.Context(), "newsletter", []consent.Address{person(t, 1)})
		if err == nil && rs[0].Scope.Mail.State != consent.Unsubscribed {
			t.Fatalf("the opt-out is lost: %+v", rs)
		}
		return err
	})
	// A sentinel that was not told yet may still name the dead master: that nothing could be asked is not
	// what is tested.
	storetest.Eventually(t, "without any replica", func() error {
		rs, err := s.Apply(t.Context(), unsubscribe(person(t, 2)))
		if err == nil {
			err = rs[0].Err
		}
		switch {
		case err == nil || !errors.Is(err, consent.ErrUnreachable):
			t.Fatalf("without any replica: %v", err)
		case !errors.Is(err, consent.ErrNotDurable):
			if rs, err := s.Lookup(t.Context(), "newsletter", []consent.Address{person(t, 2)}); err == nil && rs[0].Scope.Mail.State == consent.Unsubscribed {
				t.Fatal("it was written all the same")
			}
			return err
		}
		return nil
	})
}

// In a Cluster one dead node concerns its own people only, and nobody waits for it.
func TestClusterWithADeadNode(t *testing.T) {
	nodes := clusterOf3(t)
	for _, p := range nodes {
		if err := bare(t, p.addr).ConfigSet(t.Context(), "cluster-require-full-coverage", "no").Err(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, "redis+cluster://"+addrs(nodes), keyring.Ephemeral())
	var people []consent.Address
	var changes []consent.Change
	for i := range 60 {
		people = append(people, person(t, i))
		changes = append(changes, unsubscribe(people[i])...)
	}
	if rs, err := s.Apply(t.Context(), changes); err != nil || rs[0].Err != nil {
		t.Fatal(rs, err)
	}
	// The node of the marker lives: slot 5503 of "consentgate" is asked for, not assumed.
	slot, err := bare(t, nodes[0].addr).ClusterKeySlot(t.Context(), marker).Result()
	if err != nil {
		t.Fatal(err)
	}
	dead := nodes[(int(slot)*3/16384+1)%3]
	dead.stop()
	s.Lookup(t.Context(), "newsletter", people) // the first finds out
	begin := time.Now()
	rs, err := s.Lookup(t.Context(), "newsletter", people)
	if d := time.Since(begin); d > 100*time.Millisecond {
		t.Errorf("the second lookup took %v", d)
	}
	if err != nil {
		t.Fatal(err)
	}
	up := 0
	for _, r := range rs {
		switch {
		case r.Err == nil && r.Scope.Mail.State == consent.Unsubscribed:
			up++
		case !errors.Is(r.Err, consent.ErrUnreachable):
			t.Errorf("%+v", r)
		}
	}
	if up < 20 || up > 59 {
		t.Errorf("%d of 60 people are known with one of three nodes dead", up)
	}
}

// What was moved from a cluster is not read there any more, nor what a newer version has written, by a gateway that knew it.
func TestClusterThatWasMoved(t *testing.T) {
	nodes := clusterOf3(t)
	s, err := Open("redis+cluster://"+addrs(nodes), keyring.Ephemeral(), Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	works(t, "before", s)
	was, err := s.rdb.Get(t.Context(), marker).Result()
	if err != nil {
		t.Fatal(err)
	}
	for now, want := range map[string]string{"2-moved": consent.ErrMoved.Error(), "2-filling": consent.ErrFilling.Error(), "3": `layout "3"`} {
		_, rest, _ := strings.Cut(was, " ")
		if err := s.rdb.Set(t.Context(), marker, now+" "+rest, 0).Err(); err != nil {
			t.Fatal(err)
		}
		if rs, err := s.Lookup(t.Context(), "newsletter", []consent.Address{person(t, 1)}); err == nil || !strings.Contains(err.Error(), want) || rs[0].Err == nil {
			t.Errorf("%s: %+v, %v", now, rs, err)
		}
	}
	if err := s.rdb.Set(t.Context(), marker, was, 0).Err(); err != nil {
		t.Fatal(err)
	}
	works(t, "again", s)
}

func TestClusterThatLostAPart(t *testing.T) {
	nodes := clusterOf3(t)
	s := open(t, "redis+cluster://"+addrs(nodes), keyring.Ephemeral())
	for i, p := range nodes {
		flush(t, p)
		if err := s.Ping(t.Context()); !errors.Is(err, consent.ErrLost) || !errors.Is(err, consent.ErrUnreachable) {
			t.Errorf("node %d was emptied: %v", i, err)
		}
		if rs, err := s.Lookup(t.Context(), "newsletter", []consent.Address{person(t, 1)}); !errors.Is(err, consent.ErrLost) || rs[0].Err == nil {
			t.Errorf("node %d was emptied: Lookup: %+v, %v", i, rs, err)
		}
		if err := s.AcceptStore(t.Context()); err != nil {
			t.Errorf("accepted: %v", err)
		}
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("after it was accepted: %v", err)
		}
	}
}

// One part of the Cluster was emptied, and then the node that holds the marker dies: who can still be read
// may be one whose opt-out is gone.
func TestClusterThatLostAPartWithoutItsMarker(t *testing.T) {
	nodes := clusterOf3(t)
	for _, p := range nodes {
		if err := bare(t, p.addr).ConfigSet(t.Context(), "cluster-require-full-coverage", "no").Err(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, "redis+cluster://"+addrs(nodes), keyring.Ephemeral())
	var people []consent.Address
	for i := range 30 {
		people = append(people, person(t, i))
		if rs, err := s.Apply(t.Context(), unsubscribe(people[i])); err != nil || rs[0].Err != nil {
			t.Fatal(rs, err)
		}
	}
	slot, err := bare(t, nodes[0].addr).ClusterKeySlot(t.Context(), marker).Result()
	if err != nil {
		t.Fatal(err)
	}
	holder := int(slot) * 3 / 16384
	flush(t, nodes[(holder+1)%3])
	if err := s.Ping(t.Context()); !errors.Is(err, consent.ErrLost) {
		t.Fatalf("a part was emptied: %v", err)
	}
	nodes[holder].stop()
	for range 20 {
		rs, _ := s.Lookup(t.Context(), "newsletter", people)
		for i, r := range rs {
			if r.Err == nil {
				t.Fatalf("%s is answered, as %q", people[i], r.Scope.Mail.State)
			}
		}
	}
}

func TestWaitReplicas(t *testing.T) {
	master, replica := withReplica(t)
	ring := keyring.Ephemeral()
	s, err := Open("redis://"+master.addr, ring, Options{WaitReplicas: 1, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if rs, err := s.Apply(t.Context(), unsubscribe(person(t, 1))); err != nil || rs[0].Err != nil {
		t.Fatal(rs, err)
	}
	if err := s.Writable(t.Context()); err != nil {
		t.Error(err)
	}
	replica.stop()
	if err := s.Writable(t.Context()); !errors.Is(err, consent.ErrUnwritable) || !errors.Is(err, consent.ErrNotDurable) {
		t.Errorf("Writable: %v", err)
	}
	for _, what := range []string{"made now", "made before, and still not durable"} {
		rs, err := s.Apply(t.Context(), unsubscribe(person(t, 2)))
		if err != nil || !errors.Is(rs[0].Err, consent.ErrNotDurable) || !errors.Is(rs[0].Err, consent.ErrUnreachable) {
			t.Errorf("%s: %+v, %v", what, rs, err)
		}
	}
	if rs, err := s.Lookup(t.Context(), "newsletter", []consent.Address{person(t, 2)}); err != nil || rs[0].Scope.Mail.State != consent.Unsubscribed {
		t.Errorf("it was made all the same: %+v, %v", rs, err)
	}
	// What is not known to be durable is not confirmed at the second try either, though there is
	// nothing left to change.
	for _, what := range []string{"made now", "made before", "never seen"} {
		who := person(t, 1)
		if what == "never seen" {
			who = person(t, 99)
		}
		if err := s.Erase(t.Context(), who); !errors.Is(err, consent.ErrNotDurable) {
			t.Errorf("Erase, %s: %v", what, err)
		}
	}
	for _, what := range []string{"made now", "made before"} {
		rs, err := s.Apply(t.Context(), unsubscribe(person(t, 1))) // of whom an erased opt-out is left
		if err != nil || !errors.Is(rs[0].Err, consent.ErrNotDurable) {
			t.Errorf("Apply after Erase, %s: %+v, %v", what, rs, err)
		}
		if err := s.Rename(t.Context(), person(t, 2), person(t, 3), consent.FromAPI, noon); !errors.Is(err, consent.ErrNotDurable) {
			t.Errorf("Rename, %s: %v", what, err)
		}
	}
	if n := len(bare(t, master.addr).Keys(t.Context(), "consent:*").Val()); n != 5 {
		t.Errorf("%d keys: two of each who was renamed, one of the erased, none of whom nobody knows", n)
	}
	// With a replica again, all is confirmed.
	host, port, _ := net.SplitHostPort(master.addr)
	start(t, storetest.FreePort(t), "--replicaof", host+" "+port)
	storetest.Eventually(t, "with a replica again", func() error { return s.Erase(t.Context(), person(t, 1)) })
	if rs, err := s.Apply(t.Context(), unsubscribe(person(t, 1))); err != nil || rs[0].Err != nil || rs[0].Scope.Mail.State != consent.Unsubscribed {
		t.Errorf("with a replica again: %+v, %v", rs, err)
	}
}

// In a Cluster WAIT is asked of the node that wrote.
func TestWaitReplicasInACluster(t *testing.T) {
	nodes := clusterOf3(t)
	s, err := Open("redis+cluster://"+addrs(nodes), keyring.Ephemeral(), Options{WaitReplicas: 1, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Writable(t.Context()); !errors.Is(err, consent.ErrNotDurable) {
		t.Errorf("Writable: %v", err)
	}
	var changes []consent.Change
	for i := range 30 {
		changes = append(changes, unsubscribe(person(t, i))...)
	}
	rs, err := s.Apply(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rs {
		if !errors.Is(r.Err, consent.ErrNotDurable) {
			t.Fatalf("no node has a replica: %+v", r)
		}
	}
}

// leastRights is the ACL that the package's comment documents, without the user's name and password.
func leastRights(t *testing.T, cluster bool) []string {
	t.Helper()
	source, err := os.ReadFile("redisstore.go")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(source), "//	user consentgate on >PASSWORD ")
	text, _, _ = strings.Cut(text, "\npackage ")
	rights := strings.Fields(strings.ReplaceAll(text, "//", ""))
	if !cluster {
		rights = slices.DeleteFunc(rights, func(r string) bool { return strings.HasPrefix(r, "+cluster") || r == "+asking" || r == "+command" })
	}
	if len(rights) < 20 {
		t.Fatalf("%q", rights)
	}
	return rights
}

// The whole suite passes with the least rights that are documented: over a unix socket, in a
// Cluster, and through Sentinels.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	suite := func(t *testing.T, url string, nodes []*process) {
		storetest.Run(t, func(t *testing.T) storetest.Open {
			flush(t, nodes...)
			return func(ring *keyring.Ring) (consent.Store, error) {
				s, err := Open(url, ring, Options{Log: quiet})
				if err != nil {
					return nil, err
				}
				return cache.New(s, cache.Options{TTL: time.Hour}), s.look(t.Context())
			}
		})
		for _, p := range nodes {
			for _, entry := range bare(t, p.addr).Do(t.Context(), "acl", "log").Val().([]any) {
				t.Errorf("refused: %v", entry)
			}
		}
	}
	permit := func(t *testing.T, p *process, cluster bool) {
		t.Helper()
		args := []any{"acl", "setuser", "gate", "on", ">p@ss"}
		for _, r := range leastRights(t, cluster) {
			args = append(args, r)
		}
		if err := bare(t, p.addr).Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("unix socket", func(t *testing.T) {
		p := start(t, storetest.FreePort(t))
		permit(t, p, false)
		suite(t, "redis+unix://gate:p%40ss@"+p.socket+"?db=3", []*process{p})
		// What is not needed is not permitted.
		rdb := redis.NewClient(&redis.Options{Addr: p.addr, Username: "gate", Password: "p@ss"})
		defer rdb.Close()
		for _, args := range [][]any{{"flushall"}, {"flushdb"}, {"config", "get", "*"}, {"keys", "*"}, {"get", "elsewhere"}, {"shutdown"}, {"acl", "list"}, {"replicaof", "no", "one"}, {"rename", "consentgate", "consent:x"}} {
			if err := rdb.Do(t.Context(), args...).Err(); !redis.HasErrorPrefix(err, "NOPERM") {
				t.Errorf("%v: %v", args, err)
			}
		}
	})
	t.Run("cluster", func(t *testing.T) {
		nodes := clusterOf3(t)
		for _, p := range nodes {
			permit(t, p, true)
		}
		suite(t, "redis+cluster://gate:p%40ss@"+addrs(nodes), nodes)
	})
	t.Run("sentinel", func(t *testing.T) {
		master, replica := withReplica(t)
		permit(t, master, false)
		permit(t, replica, false)
		suite(t, "redis+sentinel://gate:p%40ss@"+addrs(sentinels(t, master))+"/people", []*process{master})
	})
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir)
	port := storetest.FreePort(t)
	start(t, "0", append([]string{"--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no", "--user", "default", "off", "--user",
		"gate", "on", ">p@ss:w/ord"}, leastRights(t, false)...)...)
	host := "127.0.0.1:" + port
	s := open(t, "rediss://gate:p%40ss%3Aw%2Ford@"+host+"/0?tls_ca="+cert, keyring.Ephemeral())
	works(t, "with a CA of one's own", s)
	keys, err := s.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Erase(t.Context(), person(t, 1)); err != nil {
		t.Error(err)
	}
	if nextKey(keys) != s.Key(person(t, 1)) {
		t.Error("not told of the change")
	}
	for url, want := range map[string]string{
		"rediss://gate:p%40ss%3Aw%2Ford@" + host:                 "certificate",
		"rediss://gate:wrong@" + host + "?tls_ca=" + cert:        "WRONGPASS",
		"rediss://" + host + "?tls_ca=" + cert:                   "NOAUTH",
		"rediss://gate:x@" + host + "?tls_ca=" + dir + "/no.pem": "tls_ca",
		"rediss://gate:x@" + host + "?tls_ca=" + key:             "tls_ca",
		"redis://gate:x@" + host + "?tls_ca=" + cert:             "tls_ca",
	} {
		var err error
		for try := 0; try == 0 || try < 10 && errors.Is(err, context.DeadlineExceeded); try++ { // a busy machine
			var s *Store
			if s, err = Open(url, keyring.Ephemeral(), Options{Log: quiet}); err == nil {
				err = s.Ping(t.Context())
				s.Close()
			}
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "ss:w") {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}

// certificate writes a certificate for 127.0.0.1 that signs itself.
func certificate(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis.example"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestReadURL(t *testing.T) {
	for url, want := range map[string]string{
		"redis://u:p@h:1/2":                                           " false [h:1] redis://u:p@h:1/2",
		"redis+unix:///run/s?db=3":                                    "unix false [] unix:///run/s?db=3",
		"rediss+cluster://u:p@a:1,b:2?x=y":                            "cluster true [a:1 b:2] rediss://u:p@a:1?x=y",
		"redis+sentinel://u:p@[::1]:1,b:2/m?db=1&tls_ca=f":            "sentinel false [[::1]:1 b:2] redis://u:p@[::1]:1/m?db=1",
		"redis+sentinel://h:1/m?sentinel_password=q&read_timeout=10s": "sentinel false [h:1] redis://h:1/m?sentinel_password=q&read_timeout=10s",
	} {
		got, err := read(url)
		if s := fmt.Sprintf("%s %v %v %s", got.kind, got.tls, got.hosts, got.url.String()); err != nil || s != want {
			t.Errorf("%s: %s, %v; want %s", url, s, err, want)
		}
	}
	sentinel, err := read("redis+sentinel://u:p%40@a:1,b:2/m?db=1&sentinel_password=q&sentinel_username=v")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := sentinel.forSentinel("m").String(), "redis://v:q@a:1?addr=b%3A2&db=1&master_name=m&password=p%40&username=u"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
