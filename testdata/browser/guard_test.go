package browser

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/smtp"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
)

// The guard fetches public addresses only, so the sender's server needs one. It gets it in a network of the
// test's own, which has no way out: the test runs itself again in there.
const (
	inside        = "GUARD_NETWORK" // the gateway's binary, set in there
	publicAddress = "45.45.45.45"
)

// TestGuard is the way of one mail: sent through the built gateway with consent to both purposes, opened and clicked;
// tracking stopped on the page; the same mail opened and clicked again; and once more with the store gone.
func TestGuard(t *testing.T) {
	if binary := os.Getenv(inside); binary != "" {
		guardedMail(t, binary)
		return
	}
	for _, program := range []string{"unshare", "ip", "redis-server"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s in PATH: the guard is not tried in a browser", program)
		}
	}
	if out, err := exec.Command("unshare", "-rn", "true").CombinedOutput(); err != nil {
		t.Skipf("no network of its own can be had here (%v: %s): the guard is not tried in a browser", err, out)
	}
	binary := filepath.Join(t.TempDir(), "consentgate")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/consentgate/consentgate/cmd/consentgate").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command("unshare", "-rn", os.Args[0], "-test.run=^TestGuard$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), inside+"="+binary)
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skipf("%s", out)
	}
	t.Logf("%s", out)
}

// counted is a server that counts who asks.
type counted struct {
	http.Handler
	mu   sync.Mutex
	seen []*http.Request
}

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/favicon.ico" {
		http.NotFound(w, r)
		return
	}
	c.mu.Lock()
	c.seen = append(c.seen, r)
	c.mu.Unlock()
	c.Handler.ServeHTTP(w, r)
}

func (c *counted) asked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

func guardedMail(t *testing.T, binary string) {
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"address", "add", publicAddress + "/32", "dev", "lo"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Skipf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	sender := &counted{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "image/gif")
		http.SetCookie(w, &http.Cookie{Name: "reader", Value: "anna"})
		w.Write(pixel)
	})}
	l, err := net.Listen("tcp", publicAddress+":8080")
	if err != nil {
		t.Fatal(err)
	}
	pixels := &http.Server{Handler: sender}
	go pixels.Serve(l) // until it is closed
	defer pixels.Close()

	counter := &counted{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://shop.example.net/offer", http.StatusFound)
	})}
	shop := &counted{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<title>the offer</title>") })}
	g := startGateway(t, binary)
	b := startChromium(t).newTab(t)
	page := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: g.page})
	for name, h := range map[string]http.Handler{"links.example.org": page, "mail.example.org": page, "click.pstmrk.it": counter, "click.convertkit-mail4.com": counter, "shop.example.net": shop} {
		b.proxy.host(name, h)
	}

	g.agree(t, `{"open":"granted","click":"granted"}`)
	html := g.deliver(t, `<html><body><p>Spring!<img src="http://`+publicAddress+`:8080/open.gif?reader=1" width="1" height="1"></p>`+
		`<p><a id="offer" href="https://click.pstmrk.it/3s/shop.example.net%2Foffer/abc/def/ghi">To the offer</a></p>`+
		`<p><a id="dark" href="https://click.convertkit-mail4.com/abcdef/ghij/a1b2">Another</a></p></body></html>`)
	if bytes.Contains(html, []byte("pstmrk")) || bytes.Contains(html, []byte(publicAddress)) {
		t.Fatalf("the copy is not guarded:\n%s", html)
	}
	mail := document{html, "utf-8"}
	read := func(when string, opens, clicks, arrivals int) {
		t.Helper()
		before := [...]int{sender.asked(), counter.asked(), shop.asked()}
		guarded := 0
		for _, addr := range b.open(mail) {
			switch {
			case strings.HasPrefix(addr, "https://links.example.org/t/"):
				guarded++
			case !strings.HasSuffix(addr, connection):
				t.Errorf("%s: opening the mail fetches %s", when, addr)
			}
		}
		if guarded != 1 {
			t.Errorf("%s: opening the mail asks the guard %d times", when, guarded)
		}
		b.click("#offer", "https://shop.example.net/offer")
		for i, x := range []struct {
			what       string
			now, wants int
		}{{"the pixel's server", sender.asked(), opens}, {"the counter", counter.asked(), clicks}, {"the shop", shop.asked(), arrivals}} {
			if got := x.now - before[i]; got != x.wants {
				t.Errorf("%s: %s is asked %d times, want %d", when, x.what, got, x.wants)
			}
		}
	}

	read("with consent", 1, 1, 1)
	if r := sender.seen[0]; r.Header.Get("Cookie") != "" || r.Header.Get("X-Forwarded-For") != "" || strings.Contains(r.UserAgent(), "Chrome") || r.RequestURI != "/open.gif?reader=1" {
		t.Errorf("the pixel's server learns %s %v", r.RequestURI, r.Header)
	}

	b.open(mail)
	b.click(`a[href^="https://mail.example.org/u/"]`, "https://mail.example.org/u/")
	b.click(`button[value="stop-tracking"]`, "https://mail.example.org/u/")
	read("withdrawn", 0, 0, 1)

	b.open(mail)
	asked := counter.asked()
	b.click("#dark", "https://links.example.org/t/")
	if counter.asked() != asked {
		t.Error("the counter of a link whose destination nobody knows is asked though consent is withdrawn")
	}
	b.click("a", "https://shop.example.net/offer") // the reader goes on through the counter
	if counter.asked() != asked+1 {
		t.Error("the reader cannot go on through the counter")
	}

	g.agree(t, `{"open":"granted","click":"granted"}`)
	read("with consent again", 1, 1, 1)
	g.stopStore()
	g.await(t, http.StatusServiceUnavailable)
	offer := regexp.MustCompile(`id="offer" href="https://links\.example\.org(/t/[^"]+)"`).FindSubmatch(html)
	if offer == nil {
		t.Fatalf("no link in\n%s", html)
	}
	start := time.Now()
	resp, err := http.DefaultTransport.RoundTrip(mustRequest(t, "http://"+g.page+string(offer[1])))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if took := time.Since(start); took > 500*time.Millisecond || resp.Header.Get("Location") != "https://shop.example.net/offer" {
		t.Errorf("with the store gone a click is answered after %v, to %s", took, resp.Header.Get("Location"))
	}
	read("with the store gone", 0, 0, 1)
	if log := g.log(); strings.Contains(log, "anna@") || strings.Contains(log, publicAddress) || strings.Contains(log, "/t/") {
		t.Errorf("the log says too much:\n%s", log)
	}
}

func mustRequest(t *testing.T, addr string) *http.Request {
	t.Helper()
	r, err := http.NewRequest("GET", addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// click clicks where the element is seen, and waits until a page is there whose address begins so.
func (b *tab) click(selector, wanted string) {
	b.t.Helper()
	for len(b.loaded) > 0 {
		<-b.loaded
	}
	var at struct{ X, Y float64 }
	b.eval(`(r => ({X: r.left + r.width / 2, Y: r.top + r.height / 2}))(document.querySelector(`+"`"+selector+"`"+`).getBoundingClientRect())`, &at)
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		b.must(b.session, "Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1}, nil)
	}
	limit := time.After(15 * time.Second)
	for {
		select {
		case <-b.loaded:
			var now string
			if b.eval("location.href", &now); strings.HasPrefix(now, wanted) {
				return
			}
		case <-limit:
			b.t.Fatalf("a click on %s does not lead to %s; fetched: %q", selector, wanted, b.proxy.fetched())
		}
	}
}

// gatewayProcess is a running consentgate serve with a redis-server and a smarthost.
type gatewayProcess struct {
	smtp, page, admin string
	stopStore         func()
	log               func() string
	copies            chan []byte
}

const guardConfiguration = `hostname = "gate.example.org"
key_file = "DIR/key"
[smtp]
listen = ["127.0.0.1:0"]
[smarthost]
urls = ["smtp://SMARTHOST"]
[delivery]
mode = "stateless"
spool_dir = "DIR/state/spool"
[consent]
store = "redis://127.0.0.1:6399/0"
default_scope = "news"
[rewrite]
opaque_links = "keep"
[unsubscribe]
base_url = "https://mail.example.org"
listen = "127.0.0.1:0"
[tracking]
mode = "guard"
base_url = "https://links.example.org"
[admin]
listen = "127.0.0.1:0"
[log]
level = "debug"
`

var listening = regexp.MustCompile(`msg=listening for=(\w+) address=(\S+)`)

func startGateway(t *testing.T, binary string) *gatewayProcess {
	t.Helper()
	dir := t.TempDir()
	redis := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", "6399", "--save", "", "--appendonly", "no", "--dir", dir)
	if err := redis.Start(); err != nil {
		t.Fatal(err)
	}
	g := &gatewayProcess{copies: make(chan []byte, 10), stopStore: sync.OnceFunc(func() { redis.Process.Kill(); redis.Wait() })}
	t.Cleanup(g.stopStore)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sink := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) { return keeper{g.copies}, nil }))
	go sink.Serve(l) // until it is closed
	t.Cleanup(func() { sink.Close() })

	if out, err := exec.Command(binary, "keygen", filepath.Join(dir, "key")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	config := filepath.Join(dir, "consentgate.toml")
	text := strings.NewReplacer("DIR", dir, "SMARTHOST", l.Addr().String()).Replace(guardConfiguration)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "serve", "--config", config)
	var mu sync.Mutex
	var out bytes.Buffer
	ready := make(chan struct{})
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		isReady := sync.OnceFunc(func() { close(ready) })
		for {
			n, err := stderr.Read(buf)
			mu.Lock()
			out.Write(buf[:n])
			if bytes.Contains(out.Bytes(), []byte("consentgate is ready")) {
				isReady()
			}
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	g.log = func() string {
		mu.Lock()
		defer mu.Unlock()
		return out.String()
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		<-done
		if err := cmd.Wait(); err != nil {
			t.Errorf("serve: %v\n%s", err, g.log())
		}
	})
	select {
	case <-ready:
	case <-done:
		t.Fatalf("serve ended:\n%s", g.log())
	}
	for _, m := range listening.FindAllStringSubmatch(g.log(), -1) {
		switch m[1] {
		case "smtp":
			g.smtp = m[2]
		case "unsubscribe":
			g.page = m[2]
		case "admin":
			g.admin = m[2]
		}
	}
	g.await(t, http.StatusOK)
	return g
}

// await asks until the gateway is ready, or is not.
func (g *gatewayProcess) await(t *testing.T, status int) {
	t.Helper()
	for range 200 {
		resp, err := http.Get("http://" + g.admin + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == status {
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Fatalf("/readyz is not %d after 10 s:\n%s", status, g.log())
}

// agree records what the reader says, over the API.
func (g *gatewayProcess) agree(t *testing.T, states string) {
	t.Helper()
	r, err := http.NewRequest("PUT", "http://"+g.admin+"/v1/consent/news/anna@example.org", strings.NewReader(states))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
}

// deliver sends a mail to the reader and returns the HTML of the copy that leaves.
func (g *gatewayProcess) deliver(t *testing.T, html string) []byte {
	t.Helper()
	text := "From: Shop <shop@example.net>\r\nTo: anna@example.org\r\nSubject: Spring\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
	for line := []byte(html); len(line) > 0; line = line[min(57, len(line)):] {
		text += base64.StdEncoding.EncodeToString(line[:min(57, len(line))]) + "\r\n"
	}
	if err := smtp.SendMail(g.smtp, nil, "shop@example.net", []string{"anna@example.org"}, []byte(text)); err != nil {
		t.Fatalf("%v\n%s", err, g.log())
	}
	copy, err := htmlOf(<-g.copies)
	if err != nil || copy == nil {
		t.Fatal(err, "no HTML in the copy")
	}
	return copy
}

// keeper is the smarthost's side of a connection.
type keeper struct{ copies chan<- []byte }

func (keeper) Reset()                                 {}
func (keeper) Logout() error                          { return nil }
func (keeper) Mail(string, *gosmtp.MailOptions) error { return nil }
func (keeper) Rcpt(string, *gosmtp.RcptOptions) error { return nil }
func (k keeper) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("the copy: %w", err)
	}
	k.copies <- text
	return nil
}
