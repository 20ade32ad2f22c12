package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9/logging"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/token"
)

// The part with many gateways: three behind a real HAProxy with deploy/haproxy.cfg, on one Redis Cluster. Mail comes
// through both of its ways in, PROXY header version 2 and version 1, from an address that may send; people change their
// mind through every gateway and by one click through HAProxy; and one gateway after the other is struck, and Redis too.

const (
	manyGateways = 3
	allowed      = "127.0.0.2" // where the clients are; HAProxy itself, at 127.0.0.1, may not send
	stranger     = "127.0.0.3"

	// Where one clicks come from: through a further proxy that the gateways know, which names a client, and from somebody
	// who pretends to be one. The history keeps the client's network, and nothing of this machine's own.
	knownProxy = "127.0.5.9"
	pretender  = "127.0.6.9"
	farClient  = "198.51.100.7"
	farNetwork = "198.51.100.0/24"

	quietFor = 4 * time.Second // with nothing but HAProxy's checks
)

// runMany runs the part with many gateways.
func runMany(ctx context.Context, dir, binary string, duration time.Duration, seed uint64) (*manyTally, error) {
	for _, program := range []string{haproxy(), "redis-server"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, skipped(program + " is not installed; make need does that on Debian")
		}
	}
	logging.Disable() // go-redis writes to standard error what it also returns
	fmt.Printf("many gateways: %v\n", duration)
	dir = filepath.Join(dir, "many")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	d, err := cluster(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer d.close()
	key := filepath.Join(dir, "key")
	if err := keyring.Create(key); err != nil {
		return nil, err
	}
	ring, err := keyring.Load(key)
	if err != nil {
		return nil, err
	}
	k, err := newSink(0)
	if err != nil {
		return nil, err
	}
	defer k.close()
	k.late = lateBy
	c := &crowd{}
	c.http.Timeout = 10 * time.Second
	for i := range manyGateways {
		home := filepath.Join(dir, fmt.Sprint("gateway-", i))
		if err := os.MkdirAll(home, 0o700); err != nil {
			return nil, err
		}
		g, err := newGateway(home, binary, settings{key: key, mode: []string{"cutthrough", "spool"}[i%2], smarthost: k.addr,
			spool: filepath.Join(home, "spool"), store: d.url, waitReplicas: d.waitReplicas})
		if err == nil {
			err = g.behindBalancer(i)
		}
		if err == nil {
			err = g.start(ctx)
		}
		if err != nil {
			return nil, err
		}
		defer func() { g.cmd.Process.Kill(); <-g.done }()
		c.gateways = append(c.gateways, g)
	}
	if err := c.settle(ctx); err != nil {
		return nil, err
	}
	b, err := newBalancer(ctx, dir, proxyConfig, c.gateways)
	if err != nil {
		return nil, err
	}
	defer b.close()
	t := newManyTally(duration)
	links := token.New(ring)

	// Nothing but checks, from both ways and the page.
	before, err := logLines(c.gateways)
	if err != nil {
		return nil, err
	}
	sleep(ctx, quietFor)
	after, err := logLines(c.gateways)
	if err != nil {
		return nil, err
	}
	t.quietLines = after - before
	for way, addr := range map[string]string{"v2": b.v2, "v1": b.v1} {
		if t.strangers[way], err = strange(addr); err != nil {
			return nil, err
		}
	}

	end := time.Now().Add(duration)
	loading, stop := context.WithDeadline(ctx, end)
	defer stop()
	var busy sync.WaitGroup
	loads := []*load{newLoad(b.v2, fmt.Sprintf("%x-v2", seed&0xffff)), newLoad(b.v1, fmt.Sprintf("%x-v1", seed&0xffff))}
	for i, l := range loads {
		l.from, l.perConn, l.write = allowed, 20, c.write(false)
		busy.Go(func() { l.run(loading, 6, 30*time.Millisecond, seed+uint64(i)) })
	}
	busy.Go(func() { c.change(loading, seed) })
	busy.Go(func() { t.clicked = c.click(loading, "http://"+b.page, links) })
	run := &manyRun{manyTally: t, crowd: c, sink: k, redis: d, b: b, late: newLoad("", "late"), link: personLink("http://"+b.page, links, ordinary+"0@example.com")}
	if err := run.strike(loading, end); err != nil {
		stop()
		busy.Wait()
		return nil, err
	}
	busy.Wait()
	left := ""
	for _, g := range c.gateways {
		waits, err := g.drained(ctx, 30*time.Second, true)
		if err != nil {
			return nil, err
		}
		left += waits
	}
	if err := t.fromBalancer(b); err != nil {
		return nil, err
	}
	if t.networks, err = c.origins(ctx); err != nil {
		return nil, err
	}
	all := newLoad("", "")
	for i, l := range loads {
		run.judgeWay(t.ways[[]string{"v2", "v1"}[i]], l, end.Add(-duration), end)
	}
	for _, l := range append(loads, run.late) {
		for mark, a := range l.answers {
			all.answers[mark] = a
		}
	}
	t.redisTally = judgeRedis(all, k, c, noGateway)
	t.waiting = left
	run.judgeEnds(all)
	t.seen(k)
	fmt.Printf("  %d answered 250, %d copies, %d withdrawals put to the test, blows %v; lost %d, doubled %d, tracked %d, mailed %d, untracked though agreed %d, transactional held %d, %d one clicks from %v by gateway %v, %d lines of log in %v of checks, a stranger %v, peers %v, kept at an end %v, given up by HAProxy %d, sent to another gateway %d\n",
		t.messages, t.delivered, t.tested, t.blows, t.lost, t.doubled, t.tracked, t.mailed, t.missed, t.held, t.clicked, t.networks, t.pages, t.quietLines, quietFor, t.strangers, t.peers, t.kept, t.givenUp, t.elsewhere)
	for way, w := range t.ways {
		fmt.Printf("  %s: %d answered 250, %d copies, share %v, longest gap %v, %d transactional ones without Redis\n", way, w.messages, w.delivered, w.share, w.longest, w.apart)
	}
	for _, said := range t.said {
		fmt.Println("  " + said)
	}
	for _, said := range t.wrong() {
		fmt.Println("  NOT AS IT MUST BE: " + said)
	}
	return t, nil
}

// noGateway is the one through which no change is made: behind a balancer every change may be another gateway's.
const noGateway = -1

// behindBalancer lets a gateway believe HAProxy, and nobody send but the clients behind it.
func (g *gateway) behindBalancer(i int) error {
	text, err := os.ReadFile(g.config)
	if err != nil {
		return err
	}
	text = bytes.Replace(text, []byte(`"gate.example.org"`), []byte(fmt.Sprintf(`"gate%d.example.org"`, i)), 1)
	text = bytes.Replace(text, []byte("[smtp]\n"), []byte("[smtp]\nproxy_protocol_from = [\"127.0.0.1/32\"]\nallow_networks = [\""+allowed+"/32\"]\n"), 1)
	text = bytes.Replace(text, []byte("[unsubscribe]\n"), []byte("[unsubscribe]\ntrusted_proxies = [\"127.0.0.1/32\", \""+knownProxy+"/32\"]\n"), 1)
	g.proxied = true
	return os.WriteFile(g.config, text, 0o600)
}

// logLines counts what the gateways logged so far, what they say of the store aside.
func logLines(gateways []*gateway) (n int, err error) {
	for _, g := range gateways {
		text, err := os.ReadFile(filepath.Join(g.dir, "log"))
		if err != nil {
			return 0, err
		}
		for line := range bytes.Lines(text) {
			if !bytes.Contains(line, []byte("kept in memory")) { // the store's beats come late where the machine is busy
				n++
			}
		}
	}
	return n, nil
}

// strange returns what somebody who may not send is answered.
func strange(addr string) (int, error) {
	c, err := dial(addr, stranger)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.say("MAIL FROM:<news@example.org>\r\n")
}

// click lets people who agreed unsubscribe by one click, through the balancer, until ctx is done. A click is made again
// until it is confirmed.
func (c *crowd) click(ctx context.Context, page string, links *token.Sealer) (confirmed int) {
	var from []*http.Client
	for _, address := range []string{knownProxy, pretender} {
		dialer := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		from = append(from, &http.Client{Timeout: c.http.Timeout, Transport: &http.Transport{DialContext: dialer.DialContext}})
	}
	for n := 0; ctx.Err() == nil; n++ {
		sleep(ctx, 40*time.Millisecond)
		m := &mind{address: fmt.Sprintf("%s1%07d@example.com", mover, n), leaves: true, by: noGateway - 1}
		if c.put(ctx, n%len(c.gateways), m.address, `{"open":"granted","click":"granted"}`) != nil {
			continue
		}
		c.mu.Lock()
		m.agreed = time.Now()
		m.clicks = true
		c.minds = append(c.minds, m)
		c.mu.Unlock()
		sleep(ctx, 120*time.Millisecond)
		link := personLink(page, links, m.address)
		for ctx.Err() == nil {
			if oneClick(from[n%len(from)], link) {
				c.mu.Lock()
				m.taken = time.Now()
				m.pretends = n%len(from) == 1
				c.mu.Unlock()
				confirmed++
				break
			}
			sleep(ctx, 20*time.Millisecond)
		}
	}
	return confirmed
}

// personLink is the link in somebody's mail.
func personLink(page string, links *token.Sealer, address string) string {
	who, err := consent.ParseAddress(address)
	if err != nil {
		panic(err) // it is one of this program's own
	}
	return page + "/u/" + links.Seal(token.Claims{Who: who, Scope: "default"})
}

// oneClick reports whether a one click was confirmed. It says that it comes for another address.
func oneClick(client *http.Client, link string) bool {
	r, err := http.NewRequest("POST", link, strings.NewReader(url.Values{"List-Unsubscribe": {"One-Click"}}.Encode()))
	if err != nil {
		return false
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Forwarded-For", farClient)
	answer, err := client.Do(r)
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// origins counts what the histories name as the network of one clicks, by who made them: "known" for those that came
// through the further proxy, "pretended" for the others.
func (c *crowd) origins(ctx context.Context) (map[string]int, error) {
	networks := map[string]int{}
	for _, m := range c.minds {
		if !m.clicks || m.taken.IsZero() {
			continue
		}
		r, err := http.NewRequestWithContext(ctx, "GET", c.gateways[0].api+"/v1/history/"+m.address, nil)
		if err != nil {
			return nil, err
		}
		answer, err := c.http.Do(r)
		if err != nil {
			return nil, err
		}
		var history struct {
			Events []struct{ Source, Origin string }
		}
		err = json.NewDecoder(answer.Body).Decode(&history)
		answer.Body.Close()
		if err != nil {
			return nil, err
		}
		who := "known"
		if m.pretends {
			who = "pretended"
		}
		for _, e := range history.Events {
			if e.Source == string(consent.FromOneClick) {
				networks[who+" "+e.Origin]++
			}
		}
	}
	return networks, nil
}
