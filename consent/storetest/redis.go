package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// FreePort returns a port of loopback that nobody uses now, and that no connection gets by chance meanwhile.
func FreePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(20_000))))
		if err != nil {
			continue
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		return port
	}
	t.Fatal("no port is free")
	return ""
}

// RedisServer starts a real redis-server and returns its address. The test is skipped where there is none.
func RedisServer(t testing.TB, more ...string) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not to be found: this test needs a real one")
	}
	port := FreePort(t)
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
	Eventually(t, "redis-server", func() error { return rdb.Ping(t.Context()).Err() })
	return addr
}

func bare(t testing.TB, addr string) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: addr, DialerRetries: 1, MaxRetries: -1})
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

// RedisCluster starts a Cluster of three and returns their addresses, between commas.
func RedisCluster(t testing.TB) string {
	t.Helper()
	var nodes []string
	bus := map[string]string{}
	for range 3 {
		port := FreePort(t)
		addr := RedisServer(t, "--cluster-enabled", "yes", "--cluster-port", port)
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
		Eventually(t, "the cluster", func() error {
			info, err := rdb.ClusterInfo(t.Context()).Result()
			if err == nil && (!strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3")) {
				err = fmt.Errorf("%s", info)
			}
			return err
		})
	}
	return strings.Join(nodes, ",")
}

// Eventually waits until f succeeds, for at most 30 seconds.
func Eventually(t testing.TB, what string, f func() error) {
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
