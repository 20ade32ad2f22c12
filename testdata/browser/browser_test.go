// Package browser opens mail in Chromium, behind a proxy that answers every request itself and
// counts: what a copy without consent still fetches, and whether it looks like the original.
//
// Nothing here is imported; there are tests only, and make test names the folder. What a machine
// lacks (chromium, the corpus) makes the tests skip, and they say so. Nothing leaves the loopback
// interface.
package browser

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// chromium is a running browser, spoken to by the DevTools protocol.
type chromium struct {
	ws *websocket.Conn

	mu      sync.Mutex
	next    int
	waiting map[int]chan reply
	events  map[string]func(method string, params json.RawMessage) // by session
}

type reply struct {
	Result json.RawMessage
	Error  *struct{ Message string }
}

// startChromium starts a headless browser that makes no requests of its own.
func startChromium(t *testing.T) *chromium {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("no chromium in PATH: what mail fetches is not tried in a browser")
	}
	cmd := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions", "--disable-domain-reliability", "--metrics-recording-only",
		"--disable-features=Translate,OptimizationHints,MediaRouter,AutofillServerCommunication,InterestFeedContentSuggestions,HttpsUpgrades,HttpsFirstBalancedModeAutoEnable",
		"--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows", "--disable-background-timer-throttling",
		"--hide-scrollbars", "--mute-audio", "--force-color-profile=srgb", "--font-render-hinting=none", "--ignore-certificate-errors",
		"--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--proxy-server=http://127.0.0.1:1", "--proxy-bypass-list=<-loopback>",
		"--remote-debugging-port=0", "--remote-allow-origins=*", "--user-data-dir="+t.TempDir(), "about:blank")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if _, ws, ok := strings.Cut(lines.Text(), "DevTools listening on "); ok {
				address <- ws
			}
		}
	}()
	var ws *websocket.Conn
	select {
	case a := <-address:
		if ws, err = websocket.Dial(a, "", "http://127.0.0.1/"); err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		cmd.Process.Kill()
		t.Fatal("chromium does not say where it listens")
	}
	ws.MaxPayloadBytes = 256 << 20
	c := &chromium{ws: ws, waiting: map[int]chan reply{}, events: map[string]func(string, json.RawMessage){}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.read()
	}()
	seen.chromium = c.version(t)
	t.Cleanup(func() {
		c.call("", "Browser.close", nil)
		ws.Close()
		<-done
		cmd.Wait()
	})
	return c
}

func (c *chromium) read() {
	for {
		var m struct {
			ID        int
			SessionID string
			Method    string
			Params    json.RawMessage
			reply
		}
		if err := websocket.JSON.Receive(c.ws, &m); err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			for id, w := range c.waiting {
				close(w)
				delete(c.waiting, id)
			}
			return
		}
		c.mu.Lock()
		w, event := c.waiting[m.ID], c.events[m.SessionID]
		delete(c.waiting, m.ID)
		c.mu.Unlock()
		switch {
		case m.Method != "" && event != nil:
			event(m.Method, m.Params)
		case w != nil:
			w <- m.reply
		}
	}
}

// call makes a call of the protocol and waits for its result.
func (c *chromium) call(session, method string, params any) (json.RawMessage, error) {
	w := make(chan reply, 1)
	c.mu.Lock()
	c.next++
	id := c.next
	c.waiting[id] = w
	c.mu.Unlock()
	m := map[string]any{"id": id, "method": method}
	if params != nil {
		m["params"] = params
	}
	if session != "" {
		m["sessionId"] = session
	}
	if err := websocket.JSON.Send(c.ws, m); err != nil {
		return nil, err
	}
	select {
	case r, ok := <-w:
		if !ok {
			return nil, fmt.Errorf("%s: the browser is gone", method)
		}
		if r.Error != nil {
			return nil, fmt.Errorf("%s: %s", method, r.Error.Message)
		}
		return r.Result, nil
	case <-time.After(30 * time.Second):
		return nil, fmt.Errorf("%s: no answer", method)
	}
}

// version is the browser's name and version.
func (c *chromium) version(t *testing.T) string {
	t.Helper()
	raw, err := c.call("", "Browser.getVersion", nil)
	var v struct{ Product string }
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v.Product
}

// tab is a page of its own, behind a proxy of its own.
type tab struct {
	t       *testing.T
	c       *chromium
	session string
	proxy   *proxy
	loaded  chan string // the loader IDs of pages that are there with all that they hold
}

func (c *chromium) newTab(t *testing.T) *tab {
	t.Helper()
	p := startProxy(t)
	b := c.attach(t, p.address)
	b.proxy = p
	b.must(b.session, "Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil) // as in a mail reader
	b.must(b.session, "Network.enable", nil, nil)
	b.must(b.session, "Network.setCacheDisabled", map[string]any{"cacheDisabled": true}, nil) // what one page fetched is no other's
	b.must(b.session, "Animation.enable", nil, nil)
	b.must(b.session, "Animation.setPlaybackRate", map[string]any{"playbackRate": 0}, nil) // what moves stands still
	b.must(b.session, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
	return b
}

// attach opens a page with cookies and cache of its own, which reaches the network by proxy.
func (c *chromium) attach(t *testing.T, proxy string) *tab {
	t.Helper()
	b := &tab{t: t, c: c, loaded: make(chan string, 100)}
	var context struct{ BrowserContextID string }
	b.must("", "Target.createBrowserContext", map[string]any{"proxyServer": proxy, "proxyBypassList": "<-loopback>"}, &context)
	var target struct{ TargetID string }
	b.must("", "Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": context.BrowserContextID}, &target)
	var attached struct{ SessionID string }
	b.must("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	c.mu.Lock()
	c.events[b.session] = func(method string, params json.RawMessage) {
		var e struct{ LoaderID, Name string }
		if method == "Page.lifecycleEvent" && json.Unmarshal(params, &e) == nil && e.Name == "load" {
			select {
			case b.loaded <- e.LoaderID:
			default:
			}
		}
	}
	c.mu.Unlock()
	b.must(b.session, "Page.enable", nil, nil)
	b.must(b.session, "Page.setLifecycleEventsEnabled", map[string]any{"enabled": true}, nil)
	return b
}

// The window is as high as most mails, so that pictures are not left for later.
const width, height = 760, 4000

func (b *tab) must(session, method string, params, result any) {
	b.t.Helper()
	raw, err := b.c.call(session, method, params)
	if err == nil && result != nil {
		err = json.Unmarshal(raw, result)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// quiet is for how long nothing must be fetched behind the load event, for what a page prefetches.
const quiet = 150 * time.Millisecond

// open shows a document and returns the addresses that it fetched, once the network is at rest.
func (b *tab) open(doc document) []string {
	b.t.Helper()
	b.proxy.show(doc)
	var nav struct{ LoaderID, ErrorText string }
	b.must(b.session, "Page.navigate", map[string]any{"url": documentURL}, &nav)
	if nav.ErrorText != "" {
		b.t.Fatalf("the document: %s", nav.ErrorText)
	}
	limit := time.After(10 * time.Second)
	for id := ""; id != nav.LoaderID; {
		select {
		case id = <-b.loaded:
		case <-limit:
			b.t.Logf("a page is not loaded after 10 s; it had fetched %q", b.proxy.fetched())
			return b.proxy.fetched()
		}
	}
	for n := -1; n < len(b.proxy.fetched()); {
		n = len(b.proxy.fetched())
		<-time.After(quiet)
	}
	return b.proxy.fetched()
}

// eval runs a script of the test in the page and decodes its JSON.
func (b *tab) eval(script string, into any) {
	b.t.Helper()
	var r struct {
		Result           struct{ Value string }
		ExceptionDetails *struct{ Text string }
	}
	b.must(b.session, "Runtime.evaluate", map[string]any{"expression": "JSON.stringify(" + script + ")", "returnByValue": true}, &r)
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", script, r.ExceptionDetails.Text)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(r.Result.Value), into); err != nil {
			b.t.Fatalf("%s: %v", script, err)
		}
	}
}

// screenshot is a PNG of the window.
func (b *tab) screenshot() []byte {
	b.t.Helper()
	var r struct{ Data []byte }
	b.must(b.session, "Page.captureScreenshot", map[string]any{"format": "png", "optimizeForSpeed": true}, &r)
	return r.Data
}
