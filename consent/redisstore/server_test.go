package redisstore

import (
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// server starts a real redis-server of its own, without persistence, and returns its address on
// loopback and the path of its unix socket. The test is skipped where Redis is not installed.
func server(t testing.TB, more ...string) (addr, socket string) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not in PATH: this test needs a real one")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // only to find a free port
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	dir := t.TempDir()
	socket = filepath.Join(dir, "s")
	cmd := exec.Command(path, append([]string{"--bind", "127.0.0.1", "--port", port, "--unixsocket", socket,
		"--save", "", "--appendonly", "no", "--dir", dir}, more...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	rdb := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, MaxRetries: -1, DialerRetries: 1})
	defer rdb.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := rdb.Ping(ctx).Err()
		if err == nil || redis.HasErrorPrefix(err, "NOAUTH") {
			return addr, socket
		}
		select {
		case <-ctx.Done():
			t.Fatal("redis-server did not come up: ", err)
		case <-tick.C:
		}
	}
}

// bare is a bare client, to look behind the store's back.
func bare(t testing.TB, addr string) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { rdb.Close() })
	return rdb
}
