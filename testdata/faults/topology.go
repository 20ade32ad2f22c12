package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// deployment is a Redis as operators run it: the servers, and what the gateway is told of them.
type deployment struct {
	url          string
	waitReplicas int // so that no confirmed change is lost with a primary
	servers      []*server
	watchers     []*server // the sentinels
	proxy        *proxy    // before the only server, where there is one

	struck *server // the primary that was killed last
	third  int     // of a cluster's slots, that it served
}

func (d *deployment) close() {
	for _, s := range append(d.watchers, d.servers...) {
		s.signal(9)
		<-s.done
		s.client.Close()
	}
	if d.proxy != nil {
		d.proxy.close()
	}
}

// single starts one server, and proxied puts a proxy before it.
func single(ctx context.Context, dir string) (*deployment, error) {
	addr, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	s, err := newServer(ctx, filepath.Join(dir, "redis"), addr[0])
	if err != nil {
		return nil, err
	}
	return &deployment{url: "redis://" + s.addr + "/0", servers: []*server{s}}, nil
}

func proxied(ctx context.Context, dir string) (*deployment, error) {
	d, err := single(ctx, dir)
	if err != nil {
		return nil, err
	}
	if d.proxy, err = newProxy(d.servers[0].addr); err != nil {
		d.close()
		return nil, err
	}
	d.url = "redis://" + d.proxy.addr + "/0"
	return d, nil
}

// sentinel starts a primary, two replicas and three sentinels.
func sentinel(ctx context.Context, dir string) (d *deployment, err error) {
	d = &deployment{waitReplicas: 1}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	addrs, err := freePorts(6)
	if err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(addrs[0])
	for i, addr := range addrs[:3] {
		var args []string
		if i > 0 {
			args = replicaOf(addrs[0])
		}
		s, err := newServer(ctx, filepath.Join(dir, fmt.Sprint("redis-", i)), addr, args...)
		if err != nil {
			return nil, err
		}
		d.servers = append(d.servers, s)
	}
	for i, addr := range addrs[3:] {
		home := filepath.Join(dir, fmt.Sprint("sentinel-", i))
		if err := os.MkdirAll(home, 0o700); err != nil {
			return nil, err
		}
		// With less a sentinel may depose a primary that is alive, as it looks at one that it hears of anew only every second;
		// what that primary confirms until it is told is lost.
		text := fmt.Sprintf("sentinel monitor people %s %s 2\nsentinel down-after-milliseconds people 2000\nsentinel failover-timeout people 3000\nsentinel parallel-syncs people 2\n", host, port)
		if err := os.WriteFile(filepath.Join(home, "conf"), []byte(text), 0o600); err != nil {
			return nil, err
		}
		_, own, _ := net.SplitHostPort(addr)
		s := &server{addr: addr, dir: home, args: []string{"conf", "--sentinel", "--bind", "127.0.0.1", "--port", own},
			client: redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true})}
		if err := s.start(); err != nil {
			return nil, err
		}
		d.watchers = append(d.watchers, s)
	}
	d.url = "redis+sentinel://" + strings.Join(addrs[3:], ",") + "/people"
	_, err = until(ctx, "the sentinels", func(ctx context.Context) error {
		for _, s := range d.watchers {
			text, err := s.client.Info(ctx, "sentinel").Result()
			if err == nil && !strings.Contains(text, "status=ok,address="+addrs[0]+",slaves=2,sentinels=3") {
				err = errors.New(text)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = inStep(ctx, d.servers)
	}
	return d, err
}

func replicaOf(addr string) []string {
	host, port, _ := net.SplitHostPort(addr)
	return []string{"--replicaof", host + " " + port}
}

// cluster starts three primaries, a third of the slots each, with a replica each: the servers i and i+3.
func cluster(ctx context.Context, dir string) (d *deployment, err error) {
	d = &deployment{waitReplicas: 1}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	addrs, err := freePorts(12)
	if err != nil {
		return nil, err
	}
	for i, addr := range addrs[:6] {
		_, bus, _ := net.SplitHostPort(addrs[6+i])
		s, err := newServer(ctx, filepath.Join(dir, fmt.Sprint("redis-", i)), addr, clustered(bus)...)
		if err != nil {
			return nil, err
		}
		s.args = append(s.args, clustered(bus)...)
		d.servers = append(d.servers, s)
		if err := s.do(ctx, fmt.Sprintf("CLUSTER SET-CONFIG-EPOCH %d", i+1)); err != nil {
			return nil, err
		}
		if i < 3 {
			if err := s.do(ctx, fmt.Sprintf("CLUSTER ADDSLOTSRANGE %d %d", i*16384/3, (i+1)*16384/3-1)); err != nil {
				return nil, err
			}
		}
		if i > 0 {
			host, port, _ := net.SplitHostPort(addrs[0])
			_, firstBus, _ := net.SplitHostPort(addrs[6])
			if err := s.do(ctx, fmt.Sprintf("CLUSTER MEET %s %s %s", host, port, firstBus)); err != nil {
				return nil, err
			}
		}
	}
	d.url = "redis+cluster://" + strings.Join(addrs[:3], ",")
	for i, s := range d.servers {
		if _, err := until(ctx, "the cluster", func(ctx context.Context) error {
			nodes, err := s.client.ClusterNodes(ctx).Result()
			if err == nil && (strings.Count(nodes, "connected") != 6 || strings.Contains(nodes, "handshake")) {
				err = errors.New(nodes)
			}
			if err == nil && i >= 3 {
				var id string
				if id, err = d.servers[i-3].client.ClusterMyID(ctx).Result(); err == nil {
					err = s.do(ctx, "CLUSTER REPLICATE "+id)
				}
			}
			return err
		}); err != nil {
			return nil, err
		}
	}
	for d.third = range 3 {
		if err := inStep(ctx, d.ofThird()); err != nil {
			return nil, err
		}
	}
	for _, s := range d.servers {
		if _, err := until(ctx, "the cluster", s.covered); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func clustered(busPort string) []string {
	return []string{"--cluster-enabled", "yes", "--cluster-port", busPort, "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0"}
}

// ofThird are the two servers of the third that is struck: which of them is the primary changes.
func (d *deployment) ofThird() []*server { return []*server{d.servers[d.third], d.servers[d.third+3]} }

// covered says whether a cluster's server thinks that all slots are served.
func (s *server) covered(ctx context.Context) error {
	text, err := s.client.ClusterInfo(ctx).Result()
	if err == nil && !strings.Contains(text, "cluster_state:ok") {
		err = errors.New(text)
	}
	return err
}

// inStep waits until one of the servers is the primary of all others, and these have all that it has.
func inStep(ctx context.Context, servers []*server) error {
	_, err := until(ctx, "a primary with all others in step", func(ctx context.Context) error {
		state := ""
		for _, s := range servers {
			text, err := s.client.Info(ctx, "replication").Result()
			if err != nil {
				return err
			}
			if strings.Contains(text, "role:master") && strings.Count(text, "state=online") == len(servers)-1 {
				return nil
			}
			state += s.addr + " " + text
		}
		return errors.New(state)
	})
	return err
}

// primary returns which of the servers is one, of those without except; in a Sentinel's set there is one.
func (d *deployment) primary(ctx context.Context, servers []*server, except *server) (found *server, since time.Time, err error) {
	since, err = until(ctx, "a primary", func(ctx context.Context) error {
		for _, s := range servers {
			if s == except {
				continue
			}
			if role, err := s.info(ctx, "replication", "role"); err == nil && role == "master" {
				found = s
				return nil
			}
		}
		return errors.New("there is none")
	})
	return found, since, err
}
