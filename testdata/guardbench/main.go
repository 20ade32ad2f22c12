// Command guardbench measures how fast the built gateway answers hits on guarded pixels and links, by wrk, with a
// real redis-server behind it; beside it, in the same run, nginx that does nothing but answer 302. make guardbench
// runs it.
//
// The guard fetches pixels from public addresses only, so all of it runs in a network of its own, which has no way
// out, and in which the sender's server (nginx, too) has one.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/token"
)

const (
	inside        = "GUARD_NETWORK" // the gateway's binary, set in there
	publicAddress = "45.45.45.45"
	people        = 1000 // with consent, and as many without
	counter       = "https://click.example.net/c/0123456789abcdef0123456789abcdef"
	destination   = "https://shop.example.net/offer?campaign=spring"
)

var (
	results = flag.String("results", "", "also write the report to this file")
	window  = flag.Duration("window", 6*time.Second, "length of a run")
	conns   = flag.Int("conns", 50, "connections")
)

func main() {
	flag.Parse()
	binary := os.Getenv(inside)
	do := outside
	if binary != "" {
		do = func() error { return measure(binary) }
	}
	if err := do(); err != nil {
		fmt.Fprintln(os.Stderr, "guardbench:", err)
		os.Exit(1)
	}
}

// outside builds the gateway and runs this program again in a network of its own.
func outside() error {
	for _, program := range []string{"unshare", "ip", "wrk", "nginx", "redis-server"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("no %s in PATH", program)
		}
	}
	dir, err := os.MkdirTemp("", "guardbench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "consentgate")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, "github.com/consentgate/consentgate/cmd/consentgate")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command("unshare", append([]string{"-rn", self}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), inside+"="+binary)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// row is one line of the report.
type row struct {
	what      string
	perSecond string
	p50, p99  string
}

func measure(binary string) (err error) {
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"address", "add", publicAddress + "/32", "dev", "lo"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	dir, err := os.MkdirTemp("", "guardbench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	h := &house{dir: dir}
	defer func() { err = errors.Join(err, h.close()) }()
	if err := h.start(binary); err != nil {
		return err
	}
	paths, err := h.tokens()
	if err != nil {
		return err
	}
	const cached, asking = "http://127.0.0.1:8080", "http://127.0.0.1:8090"
	var rows []row
	for _, x := range []struct{ what, base, paths, answer, location string }{
		{"nginx, a bare 302", "http://127.0.0.1:8070", "link-yes", "302", destination},
		{"link, with consent: to the counter", cached, "link-yes", "302", counter},
		{"link, withdrawn: to the destination", cached, "link-no", "302", destination},
		{"pixel, withdrawn: the transparent picture", cached, "pixel-no", "200", ""},
		{"pixel, with consent: fetched from the sender's server", cached, "pixel-yes", "200", ""},
		{"link, with consent, `consent.cache = \"0s\"`: Redis is asked each time", asking, "link-yes", "302", counter},
		{"nginx, a bare 302, once more", "http://127.0.0.1:8070", "link-yes", "302", destination},
	} {
		if err := check(x.base+paths[x.paths][0], x.answer, x.location); err != nil {
			return fmt.Errorf("%s: %w", x.what, err)
		}
		r, err := h.wrk(x.base, x.paths, paths[x.paths])
		if err != nil {
			return fmt.Errorf("%s: %w", x.what, err)
		}
		r.what = x.what
		fmt.Fprintf(os.Stderr, "%s: %s/s, p99 %s\n", r.what, r.perSecond, r.p99)
		rows = append(rows, r)
	}
	text := report(rows)
	fmt.Print(text)
	if *results != "" {
		return os.WriteFile(*results, []byte(text), 0o644)
	}
	return nil
}

// tokens makes the paths that are asked for, by kind.
func (h *house) tokens() (map[string][]string, error) {
	ring, err := keyring.Load(h.dir + "/key")
	if err != nil {
		return nil, err
	}
	hits := token.NewHits(ring)
	paths := map[string][]string{}
	for i := range people {
		for _, kind := range []string{"yes", "no"} {
			who, err := consent.ParseAddress(fmt.Sprintf("%s%d@example.org", kind, i))
			if err != nil {
				return nil, err
			}
			hit := token.Hit{Who: who, Scope: "news", Purpose: consent.Click, URL: counter, Destination: destination}
			paths["link-"+kind] = append(paths["link-"+kind], "/t/"+hits.Seal(hit))
			hit.Purpose, hit.URL, hit.Destination = consent.Open, fmt.Sprintf("http://%s:8071/o.gif?reader=%d", publicAddress, i), ""
			paths["pixel-"+kind] = append(paths["pixel-"+kind], "/t/"+hits.Seal(hit))
		}
	}
	return paths, nil
}

// check makes sure that what is measured is what is said.
func check(addr, answer, location string) error {
	resp, err := http.DefaultTransport.RoundTrip(&http.Request{Method: "GET", URL: mustParse(addr), Header: http.Header{}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if fmt.Sprint(resp.StatusCode) != answer || resp.Header.Get("Location") != location {
		return fmt.Errorf("answers %d to %q, want %s to %q", resp.StatusCode, resp.Header.Get("Location"), answer, location)
	}
	return nil
}

var (
	perSecond = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	share     = regexp.MustCompile(`(?m)^\s+(50|99)%\s+(\S+)$`)
)

// wrk asks for the paths in turn, for a second to warm up and then for the window.
func (h *house) wrk(base, name string, paths []string) (row, error) {
	script := filepath.Join(h.dir, name+".lua")
	text := "local paths = {\"" + strings.Join(paths, "\",\n\"") + "\"}\nlocal n = 0\nrequest = function()\n  n = n % #paths + 1\n  return wrk.format(\"GET\", paths[n])\nend\n"
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return row{}, err
	}
	var out []byte
	for _, d := range []time.Duration{time.Second, *window} {
		var err error
		if out, err = exec.Command("wrk", "-t1", fmt.Sprintf("-c%d", *conns), fmt.Sprintf("-d%ds", int(d.Seconds())), "--latency", "-s", script, base).CombinedOutput(); err != nil {
			return row{}, fmt.Errorf("%w: %s", err, out)
		}
	}
	if bytes.Contains(out, []byte("Non-2xx")) || bytes.Contains(out, []byte("Socket errors")) {
		return row{}, fmt.Errorf("not all was answered: %s", out)
	}
	m := perSecond.FindSubmatch(out)
	if m == nil {
		return row{}, fmt.Errorf("wrk says %s", out)
	}
	r := row{perSecond: strings.Split(string(m[1]), ".")[0]}
	for _, s := range share.FindAllSubmatch(out, -1) {
		if string(s[1]) == "50" {
			r.p50 = string(s[2])
		} else {
			r.p99 = string(s[2])
		}
	}
	return r, nil
}

func report(rows []row) string {
	var b strings.Builder
	first := func(name string, args ...string) string {
		out, _ := exec.Command(name, args...).CombinedOutput()
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return line
	}
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Fprintf(&b, "# Hits on guarded pixels and links\n\nMeasured %s on %d cores shared with whatever else runs there (load average at the end %s), %s, %s/%s.\n",
		time.Now().UTC().Format("2 January 2006, 15:04 UTC"), runtime.NumCPU(), strings.Join(strings.Fields(string(load))[:1], ""), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	fmt.Fprintf(&b, "%s and %s, one thread, %d connections, %s a run behind a second to warm up; %d people with consent and as many without, in turn.\nwrk, the gateway, Redis and the nginx that is the sender's server share the cores; the nginx beside it has one worker, the gateway all that it gets.\n\n",
		strings.Join(strings.Fields(first("wrk", "-v"))[:2], " "), strings.TrimPrefix(first("nginx", "-v"), "nginx version: "), *conns, *window, people)
	b.WriteString("| what | requests/s | p50 | p99 |\n|---|--:|--:|--:|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.what, r.perSecond, r.p50, r.p99)
	}
	b.WriteString("\nBefore each run one answer is looked at, and a run with an answer that is an error ends all. Again: make guardbench.\n")
	return b.String()
}
