package redisstore

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent/storetest"
)

// process is a redis-server that a test started.
type process struct {
	addr, socket, dir string
	cmd               *exec.Cmd
}

// program is the redis-server to test with: that in PATH, or whatever REDIS_SERVER names, such as a
// valkey-server. The test is skipped where there is none.
func program(t testing.TB) string {
	t.Helper()
	name := os.Getenv("REDIS_SERVER")
	if name == "" {
		name = "redis-server"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name + " is not to be found: this test needs a real one")
	}
	return path
}

// server starts a real redis-server of its own, without persistence, and returns its address on
// loopback and the path of its unix socket.
func server(t testing.TB, more ...string) (addr, socket string) {
	t.Helper()
	p := start(t, storetest.FreePort(t), more...)
	return p.addr, p.socket
}

// start is server at a port of the caller's choice.
func start(t testing.TB, port string, more ...string) *process {
	t.Helper()
	path := program(t)
	dir, err := os.MkdirTemp("", "redis") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &process{addr: "127.0.0.1:" + port, socket: filepath.Join(dir, "s"), dir: dir}
	p.cmd = exec.Command(path, append([]string{"--bind", "127.0.0.1", "--port", port, "--unixsocket", p.socket,
		"--save", "", "--appendonly", "no", "--dir", dir}, more...)...)
	run(t, p.cmd)
	answers(t, &redis.Options{Network: "unix", Addr: p.socket})
	return p
}

// stop ends the process as a power cut does.
func (p *process) stop() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

func run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// answers waits until a server does.
func answers(t testing.TB, o *redis.Options) {
	t.Helper()
	o.MaxRetries, o.DialerRetries = -1, 1
	rdb := redis.NewClient(o)
	defer rdb.Close()
	storetest.Eventually(t, "redis-server", func() error {
		if err := rdb.Ping(t.Context()).Err(); err != nil && !redis.HasErrorPrefix(err, "NOAUTH") {
			return err
		}
		return nil
	})
}

// bare is a bare client, to look behind the store's back.
func bare(t testing.TB, addr string) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: addr, DialerRetries: 1})
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

// clusterOf starts a Cluster of three masters and returns them.
func clusterOf3(t testing.TB) []*process {
	t.Helper()
	var nodes []*process
	for range 3 {
		nodes = append(nodes, start(t, storetest.FreePort(t), "--cluster-enabled", "yes", "--cluster-port", storetest.FreePort(t), "--cluster-node-timeout", "2000"))
	}
	ctx := t.Context()
	do := func(p *process, args ...any) {
		t.Helper()
		if err := bare(t, p.addr).Do(ctx, args...).Err(); err != nil {
			t.Fatal(args, err)
		}
	}
	for i, p := range nodes {
		do(p, "cluster", "set-config-epoch", i+1)
		do(p, "cluster", "addslotsrange", i*16384/3, (i+1)*16384/3-1)
	}
	host, port, _ := net.SplitHostPort(nodes[0].addr)
	bus := bare(t, nodes[0].addr).ConfigGet(ctx, "cluster-port").Val()["cluster-port"]
	for _, p := range nodes[1:] {
		do(p, "cluster", "meet", host, port, bus)
	}
	for _, p := range nodes {
		rdb := bare(t, p.addr)
		storetest.Eventually(t, "the cluster", func() error {
			info, err := rdb.ClusterInfo(ctx).Result()
			if err == nil && (infoValue(info, "cluster_state") != "ok" || infoValue(info, "cluster_known_nodes") != "3") {
				err = fmt.Errorf("%s", info)
			}
			return err
		})
	}
	return nodes
}

func addrs(nodes []*process) string {
	var all []string
	for _, p := range nodes {
		all = append(all, p.addr)
	}
	return strings.Join(all, ",")
}

// flush empties servers, as a disaster does.
func flush(t testing.TB, nodes ...*process) {
	t.Helper()
	for _, p := range nodes {
		if err := bare(t, p.addr).FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// withReplica starts a master and a replica that is in step with it.
func withReplica(t testing.TB) (master, replica *process) {
	t.Helper()
	master = start(t, storetest.FreePort(t), "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
	host, port, _ := net.SplitHostPort(master.addr)
	replica = start(t, storetest.FreePort(t), "--replicaof", host+" "+port)
	rdb := bare(t, master.addr)
	storetest.Eventually(t, "the replica", func() error {
		n, err := rdb.Do(t.Context(), "wait", 1, 100).Int()
		if err == nil && n != 1 {
			err = fmt.Errorf("%d replicas", n)
		}
		return err
	})
	return master, replica
}

// sentinels starts three that watch a master, under the name "people".
func sentinels(t testing.TB, master *process) []*process {
	t.Helper()
	path := program(t)
	host, port, _ := net.SplitHostPort(master.addr)
	var all []*process
	for range 3 {
		p := &process{dir: t.TempDir()}
		own := storetest.FreePort(t)
		p.addr = "127.0.0.1:" + own
		conf := filepath.Join(p.dir, "sentinel.conf")
		text := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %s\nsentinel monitor people %s %s 2\nsentinel down-after-milliseconds people 500\n"+
			"sentinel failover-timeout people 3000\n", own, p.dir, host, port)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p.cmd = exec.Command(path, conf, "--sentinel")
		run(t, p.cmd)
		answers(t, &redis.Options{Addr: p.addr})
		all = append(all, p)
	}
	for _, p := range all {
		rdb := redis.NewSentinelClient(&redis.Options{Addr: p.addr})
		t.Cleanup(func() { rdb.Close() })
		storetest.Eventually(t, "the sentinels", func() error {
			m, err := rdb.Master(t.Context(), "people").Result()
			if err == nil && m["num-other-sentinels"] != "2" {
				err = fmt.Errorf("%v", m)
			}
			return err
		})
	}
	return all
}
