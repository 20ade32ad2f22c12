package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
// mind through every gateway and by one click through HAProxy; and one gateway after the other is killed.

const (
	manyGateways = 3
	allowed      = "127.0.0.2" // where the clients are; HAProxy itself, at 127.0.0.1, may not send
	stranger     = "127.0.0.3"

	killEvery = 6 * time.Second // one of them
	awayFor   = time.Second
	quietFor  = 4 * time.Second // with nothing but HAProxy's checks
)

// manyTally is what came of it.
type manyTally struct {
	*redisTally                // both ways together
	share       []int          // copies that left through each gateway
	kills       int            //
	clicked     int            // one clicks that were confirmed through HAProxy
	quietLines  int            // that the gateways logged while there was nothing but checks
	strangers   map[string]int // what somebody who may not send was answered, by way
	peers       map[string]int // whom the Received fields name
	longest     time.Duration  // between two messages answered 250 on one way, of all times
}

func (t *manyTally) bad() bool {
	fewest := slices.Min(t.share)
	r := t.redisTally
	return r.lost+r.tracked+r.mailed+r.missed+r.held > 0 || r.waiting != "" || r.doubled > inFlight*t.kills ||
		fewest*manyGateways*2 < r.delivered || t.quietLines > 0 || t.strangers["v1"] != 530 || t.strangers["v2"] != 530 ||
		len(t.peers) != 1 || t.peers[allowed] == 0
}

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
	t := &manyTally{strangers: map[string]int{}, peers: map[string]int{}}

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
	busy.Go(func() { t.clicked = c.click(loading, "http://"+b.page, token.New(ring)) })
	for n := 0; time.Now().Add(killEvery).Before(end); n++ {
		sleep(ctx, killEvery-awayFor)
		g := c.gateways[n%manyGateways]
		g.cmd.Process.Kill()
		<-g.done
		t.kills++
		sleep(ctx, awayFor)
		if err := g.start(ctx); err != nil {
			stop()
			busy.Wait()
			return nil, err
		}
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
	all := newLoad("", "")
	for _, l := range loads {
		t.longest = max(t.longest, longestGap(l))
		for mark, a := range l.answers {
			all.answers[mark] = a
		}
	}
	t.redisTally = judgeRedis(all, k, c, noGateway)
	t.waiting = left
	t.seen(k)
	fmt.Printf("  %d answered 250, %d copies, %d withdrawals put to the test, %d kills, share %v; lost %d, doubled %d, tracked %d, mailed %d, untracked though agreed %d, transactional held %d, %d one clicks, %d lines of log in %v of checks, a stranger %v, peers %v, longest gap %v\n",
		t.messages, t.delivered, t.tested, t.kills, t.share, t.lost, t.doubled, t.tracked, t.mailed, t.missed, t.held, t.clicked, t.quietLines, quietFor, t.strangers, t.peers, t.longest)
	for _, said := range t.said {
		fmt.Println("  " + said)
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
	text = bytes.Replace(text, []byte("[unsubscribe]\n"), []byte("[unsubscribe]\ntrusted_proxies = [\"127.0.0.1/32\"]\n"), 1)
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
		who, err := consent.ParseAddress(m.address)
		if err != nil {
			return confirmed
		}
		link := page + "/u/" + links.Seal(token.Claims{Who: who, Scope: "default"})
		for ctx.Err() == nil {
			answer, err := c.http.PostForm(link, url.Values{"List-Unsubscribe": {"One-Click"}})
			if err == nil {
				answer.Body.Close()
				if answer.StatusCode == http.StatusOK {
					c.mu.Lock()
					m.taken = time.Now()
					c.mu.Unlock()
					confirmed++
					break
				}
			}
			sleep(ctx, 20*time.Millisecond)
		}
	}
	return confirmed
}

var receivedBy = regexp.MustCompile(`(?s)^Received: from \S+ \(\S* ?\[([0-9.]+)\]\)\s+by gate(\d)\.example\.org`)

// seen counts through which gateway each copy left, and who its Received field says sent it.
func (t *manyTally) seen(k *sink) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t.share = make([]int, manyGateways)
	for _, text := range k.text {
		at := strings.Index(text, "Received: ")
		m := receivedBy.FindStringSubmatch(text[max(at, 0):])
		if m == nil {
			t.peers["none"]++
			continue
		}
		t.peers[m[1]]++
		t.share[m[2][0]-'0']++
	}
}

// longestGap is the longest time from one message that was answered 250 to the next on one way.
func longestGap(l *load) (longest time.Duration) {
	var at []time.Time
	for _, a := range l.answers {
		if a.code == 250 {
			at = append(at, a.begun.Add(a.took))
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	for i := 1; i < len(at); i++ {
		longest = max(longest, at[i].Sub(at[i-1]))
	}
	return longest
}

// manyReport is the section about many gateways.
func manyReport(t *manyTally) string {
	shares := make([]string, len(t.share))
	for i, n := range t.share {
		shares[i] = fmt.Sprintf("%.0f %%", 100*float64(n)/float64(max(t.delivered, 1)))
	}
	return fmt.Sprintf(`## Many gateways

Written by `+"`make faults`"+` on %s. Three gateways behind HAProxy, run with `+"`deploy/haproxy.cfg`"+` with its addresses replaced, on one Redis Cluster of three primaries and three
replicas, all on one machine. Twelve connections send through both of its ways, with PROXY header version 2 and version 1, while people change their mind through the API of
every gateway and by one click through HAProxy, and one gateway after the other is killed (SIGKILL) and is back a second later. A withdrawal that was confirmed must hold 0.1 s later,
whichever gateway the mail comes through.

| messages answered 250 | copies delivered | reported | share of each gateway | kills | lost | doubled | tracked without consent | mailed though unsubscribed | untracked though agreed | transactional refused | withdrawn before | one clicks | longest time without a 250 on one way |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
| %d | %d | %d | %s | %d | **%d** | %d | **%d** | **%d** | **%d** | **%d** | %d | %d | %.1f s |

"Doubled" were on their way to the smarthost at a SIGKILL, and went again since nobody knew better. Every Received field named the client, %s, and not HAProxy, which is not in `+"`allow_networks`"+`; somebody else behind it was answered %d (version 2) and
%d (version 1). In %.0f s with nothing but HAProxy's checks, by HTTP and by SMTP, every second, the gateways logged %d lines.
`, time.Now().UTC().Format("2006-01-02"), t.messages, t.delivered, t.reported, strings.Join(shares, ", "), t.kills, t.lost, t.doubled, t.tracked, t.mailed, t.missed, t.held, t.tested,
		t.clicked, t.longest.Seconds(), allowed, t.strangers["v2"], t.strangers["v1"], quietFor.Seconds(), t.quietLines)
}
