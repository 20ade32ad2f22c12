package migrate

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/redisstore"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// freePort returns a port of loopback that nobody uses now.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// server starts a real redis-server and returns its address. The test is skipped where there is none.
func server(t testing.TB, more ...string) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not to be found: this test needs a real one")
	}
	port := freePort(t)
	cmd := exec.Command(path, append([]string{"--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", t.TempDir()}, more...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	addr := "127.0.0.1:" + port
	rdb := bare(t, addr)
	eventually(t, "redis-server", func() error { return rdb.Ping(t.Context()).Err() })
	return addr
}

func bare(t testing.TB, addr string) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: addr, DialerRetries: 1, MaxRetries: -1})
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

// cluster starts a Cluster of three and returns their addresses, between commas.
func cluster(t testing.TB) string {
	t.Helper()
	var nodes []string
	bus := map[string]string{}
	for range 3 {
		port := freePort(t)
		addr := server(t, "--cluster-enabled", "yes", "--cluster-port", port)
		nodes = append(nodes, addr)
		bus[addr] = port
	}
	do := func(addr string, args ...any) {
		t.Helper()
		if err := bare(t, addr).Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(args, err)
		}
	}
	for i, addr := range nodes {
		do(addr, "cluster", "set-config-epoch", i+1)
		do(addr, "cluster", "addslotsrange", i*16384/3, (i+1)*16384/3-1)
	}
	host, port, _ := net.SplitHostPort(nodes[0])
	for _, addr := range nodes[1:] {
		do(addr, "cluster", "meet", host, port, bus[nodes[0]])
	}
	for _, addr := range nodes {
		rdb := bare(t, addr)
		eventually(t, "the cluster", func() error {
			info, err := rdb.ClusterInfo(t.Context()).Result()
			if err == nil && (!strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3")) {
				err = fmt.Errorf("%s", info)
			}
			return err
		})
	}
	return strings.Join(nodes, ",")
}

// eventually waits until f succeeds, for at most 30 seconds.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

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
func aRedis(t testing.TB) place   { return place{url: "redis://" + server(t) + "/0"} }
func aCluster(t testing.TB) place { return place{url: "redis+cluster://" + cluster(t)} }

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
