package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/redisstore"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/testdata/process"
)

const (
	pageConns  = 32
	pagePeople = 50_000 // with a link of their own in each run, so that no opt-out is one already
)

// wrkScript asks for the paths of a file in turn, and prints what came of it as JSON. Latencies are in
// microseconds.
const wrkScript = `local paths = {}
for line in io.lines(%q) do paths[#paths + 1] = line end
local i = 0
request = function()
  i = i %% #paths + 1
  return wrk.format(%q, paths[i], {["Content-Type"] = "application/x-www-form-urlencoded"}, %s)
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\n{"requests":%%d,"microseconds":%%d,"errors":%%d,"p50":%%d,"p99":%%d}\n', summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
`

// wrkRun is one run of wrk.
type wrkRun struct {
	Requests, Microseconds, Errors, P50, P99 int64

	cpu, others float64 // µs a request; % of the machine
}

func (a wrkRun) rate() float64 { return float64(a.Requests) / (float64(a.Microseconds) / 1e6) }

// pages measures the page and the one-click endpoint with wrk, and in turn with them nginx that serves
// a file of the page's size.
func (s *site) pages(ctx context.Context, runs int, window time.Duration) (report string, err error) {
	wrk, err1 := exec.LookPath("wrk")
	server, err2 := exec.LookPath("nginx")
	if err := errors.Join(err1, err2); err != nil {
		return "", fmt.Errorf("%w; make pagebench installs them on Debian", err)
	}
	g, err := s.serve(ctx, "stateless")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, g.Stop()) }()
	said, err := os.ReadFile(g.Log)
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`msg=listening for=unsubscribe address=(\S+)`).FindSubmatch(said)
	if m == nil {
		return "", errors.New("the gateway does not say where its page is")
	}
	gate := string(m[1])
	if err := s.links("warm"); err != nil {
		return "", err
	}
	page, err := s.onePage(gate)
	if err != nil {
		return "", err
	}
	static, nginx, err := s.nginx(ctx, server, page)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, nginx.Stop()) }()

	type row struct {
		name, addr, method, body, paths string
		pids                            func() []int
		runs                            []wrkRun
	}
	ours := func() []int { return []int{g.PID()} }
	rows := []*row{
		{name: "the page, `GET /u/TOKEN`", addr: gate, method: "GET", body: "nil", pids: ours},
		{name: "nginx, a file of that size", addr: static, method: "GET", body: "nil", paths: "static", pids: func() []int { return append(process.Children(nginx.PID()), nginx.PID()) }},
		{name: "one click, `POST /u/TOKEN`, each an opt-out", addr: gate, method: "POST", body: `"List-Unsubscribe=One-Click"`, pids: ours},
	}
	for run := range runs + 1 {
		links := fmt.Sprintf("run-%d", run)
		if err := s.links(links); err != nil {
			return "", err
		}
		for _, r := range rows {
			paths := r.paths
			if paths == "" {
				paths = links
			}
			one, err := s.wrk(ctx, wrk, r.addr, r.method, r.body, paths, window, r.pids)
			if err != nil {
				return "", fmt.Errorf("%s: %w", r.name, err)
			}
			if r.method == "POST" {
				if err := s.optedOut(ctx, links, one.Requests); err != nil {
					return "", err
				}
			}
			if run > 0 { // the first is the warm-up
				r.runs = append(r.runs, one)
				fmt.Fprintf(os.Stderr, "  %-45s %6.0f/s  p99 %.1f ms  others' load %2.0f %%\n", r.name, one.rate(), float64(one.P99)/1000, one.others)
			}
		}
	}
	versions, err := s.versions(ctx)
	if err != nil {
		return "", err
	}
	theirs, err := output(ctx, server, "-v")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	busiest := 0.0
	fmt.Fprintf(&b, "# The page and one-click unsubscription through consentgate serve\n\nMeasured %s on %s.\n%s; %s.\nThe page has %d bytes. wrk with %d connections on the same two cores; medians of %d runs of %s, each followed by one of the others.\n\n",
		time.Now().UTC().Format("2 January 2006, 15:04 UTC"), thisMachine(), versions, strings.TrimPrefix(theirs, "nginx version: "), len(page), pageConns, runs, window)
	fmt.Fprintf(&b, "| | requests/s | slowest–fastest | p50 ms | p99 ms | CPU µs/request | others' load |\n|---|--:|--:|--:|--:|--:|--:|\n")
	for _, r := range rows {
		slices.SortFunc(r.runs, func(a, b wrkRun) int { return int(a.rate() - b.rate()) })
		mid := r.runs[len(r.runs)/2]
		fmt.Fprintf(&b, "| %s | %.0f | %.0f–%.0f | %.1f | %.1f | %.0f | %.0f %% |\n", r.name, mid.rate(), r.runs[0].rate(), r.runs[len(r.runs)-1].rate(),
			float64(mid.P50)/1000, float64(mid.P99)/1000, mid.cpu, mid.others)
		busiest = max(busiest, mid.others)
	}
	if busiest > 10 {
		fmt.Fprintf(&b, "\n**The machine was busy with other things: only the CPU a request says something.**\n")
	}
	fmt.Fprintf(&b, `
Each of the gateway's pages opens a token, asks Redis (the link is new to the gateway's memory) and is written for
that person; nginx sends a file. Each one-click POST is a change and an entry of the history in Redis, confirmed
before the answer, and a line in the log; afterwards the store is asked for one of them. Any answer but 2xx ends
the run with an error. CPU is that of the gateway, or of nginx's processes, without Redis and wrk.

Again: make pagebench
`)
	return b.String(), nil
}

// links writes a file of links, one for each person, of a scope that has its name.
func (s *site) links(scope string) error {
	sealer := token.New(s.ring)
	var b bytes.Buffer
	for i := range pagePeople {
		who, err := consent.ParseAddress(person(i))
		if err != nil {
			return err
		}
		b.WriteString("/u/" + sealer.Seal(token.Claims{Who: who, Scope: consent.Scope(scope), Language: "en"}) + "\n")
	}
	return os.WriteFile(filepath.Join(s.dir, scope), b.Bytes(), 0o600)
}

// onePage returns the page behind the first link.
func (s *site) onePage(addr string) ([]byte, error) {
	paths, err := os.ReadFile(filepath.Join(s.dir, "warm"))
	if err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(string(paths), "\n")
	resp, err := http.Get("http://" + addr + first)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != 200 || !bytes.Contains(page, []byte("unsubscribe"))) {
		err = fmt.Errorf("the page: %s\n%s", resp.Status, page)
	}
	return page, err
}

// optedOut makes sure that one of the people who were unsubscribed is.
func (s *site) optedOut(ctx context.Context, scope string, requests int64) error {
	store, err := redisstore.Open(s.redisURL, s.ring, redisstore.Options{})
	if err != nil {
		return err
	}
	defer store.Close()
	who, err := consent.ParseAddress(person(int(min(requests, pagePeople)) / 2))
	if err != nil {
		return err
	}
	rs, err := store.Lookup(ctx, consent.Scope(scope), []consent.Address{who})
	if err == nil {
		err = rs[0].Err
	}
	if err == nil && rs[0].Scope.Mail.State != consent.Unsubscribed {
		err = fmt.Errorf("one click was answered 200, and the store holds %+v", rs[0].Scope)
	}
	return err
}

// nginx serves a page as a file.
func (s *site) nginx(ctx context.Context, server string, page []byte) (addr string, p *process.Process, err error) {
	dir := filepath.Join(s.dir, "nginx")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", nil, err
	}
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	addr = net.JoinHostPort("127.0.0.1", port)
	conf := fmt.Sprintf(`daemon off; worker_processes 2; pid %[1]s/pid; error_log stderr;
events { worker_connections 512; }
http {
  types { text/html html; } access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
  server { listen %[2]s; root %[1]s; }
}
`, dir, addr)
	if os.Geteuid() == 0 { // its workers would be somebody else, who may not read this folder
		conf = "user root;" + conf
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o644), os.WriteFile(filepath.Join(dir, "page.html"), page, 0o644),
		os.WriteFile(filepath.Join(s.dir, "static"), []byte("/page.html\n"), 0o644)); err != nil {
		return "", nil, err
	}
	if p, err = process.Start(filepath.Join(dir, "log"), server, "-c", filepath.Join(dir, "nginx.conf"), "-p", dir); err != nil {
		return "", nil, err
	}
	err = p.Ready(ctx, func() error {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err
	})
	if err != nil {
		err = errors.Join(err, p.Stop())
	}
	return addr, p, err
}

// wrk asks for the paths of a file for a while.
func (s *site) wrk(ctx context.Context, wrk, addr, method, body, paths string, window time.Duration, measured func() []int) (a wrkRun, err error) {
	script := filepath.Join(s.dir, "wrk.lua")
	if err := os.WriteFile(script, fmt.Appendf(nil, wrkScript, filepath.Join(s.dir, paths), method, body), 0o600); err != nil {
		return a, err
	}
	pids := measured()
	before, beforeAll, begin := process.CPU(pids), process.MachineCPU(), time.Now()
	cmd := exec.CommandContext(ctx, wrk, "-t1", fmt.Sprintf("-c%d", pageConns), fmt.Sprintf("-d%ds", int(window.Seconds())), "-s", script, "http://"+addr)
	redis := process.CPU([]int{s.redis.PID()})
	out, err := cmd.CombinedOutput()
	if err != nil {
		return a, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	used := process.CPU(pids) - before
	if err := json.Unmarshal(out[bytes.LastIndex(bytes.TrimSpace(out), []byte("\n{"))+1:], &a); err != nil {
		return a, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	if a.Errors > 0 || a.Requests == 0 {
		return a, fmt.Errorf("%d of %d requests failed", a.Errors, a.Requests)
	}
	a.cpu = float64(used.Microseconds()) / float64(a.Requests)
	ours := used + cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() + process.CPU([]int{s.redis.PID()}) - redis
	a.others = 100 * max(0, process.MachineCPU()-beforeAll-ours).Seconds() / (2 * time.Since(begin).Seconds())
	return a, nil
}
