package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
)

// axeCore is the version of the checker for accessibility that is installed for the test.
const axeCore = "4.14.1"

// axe fetches its text from the registry of npm; "" where that cannot be had.
func axe(t *testing.T) string {
	t.Helper()
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Log("no npm in PATH: the pages are not checked by axe-core")
		return ""
	}
	dir := t.TempDir()
	install := exec.Command(npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir, "axe-core@"+axeCore)
	if said, err := install.CombinedOutput(); err != nil {
		t.Logf("npm cannot fetch axe-core@%s here, so the pages are not checked by it: %v %.300s", axeCore, err, said)
		return ""
	}
	text, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// window is how somebody looks at a page.
type window struct {
	width, height int
	dark, scripts bool
}

var phone, desktop = window{width: 360, height: 640}, window{width: 1280, height: 800}

func (w window) String() string {
	s := fmt.Sprintf("%dx%d", w.width, w.height)
	if w.dark {
		s += "-dark"
	}
	if w.scripts {
		s += "-scripts"
	}
	return s
}

// visitor is a person with a browser on the page of a site.
type visitor struct {
	*tab
	site *pageSite
	name string
	axe  string
	shot int
}

func (s *pageSite) visitor(c *chromium, w window, lang, axe string) *visitor {
	s.t.Helper()
	v := &visitor{c.attach(s.t, "direct://"), s, lang + "-" + w.String(), axe, 0}
	scheme := "light"
	if w.dark {
		scheme = "dark"
	}
	v.must(v.session, "Emulation.setDeviceMetricsOverride", map[string]any{"width": w.width, "height": w.height, "deviceScaleFactor": 1, "mobile": w.width < 500}, nil)
	v.media("prefers-color-scheme", scheme)
	v.must(v.session, "Emulation.setScriptExecutionDisabled", map[string]any{"value": !w.scripts}, nil)
	return v
}

func (v *visitor) media(feature, value string) {
	v.t.Helper()
	v.must(v.session, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": feature, "value": value}}}, nil)
}

// load does what makes another page load, and waits for that.
func (v *visitor) load(what string, do func()) {
	v.t.Helper()
	for len(v.loaded) > 0 {
		<-v.loaded
	}
	do()
	select {
	case <-v.loaded:
	case <-time.After(60 * time.Second):
		v.t.Fatalf("%s: %s loads no page", v.name, what)
	}
}

func (v *visitor) visit(path string) {
	v.t.Helper()
	v.load(path, func() { v.must(v.session, "Page.navigate", map[string]any{"url": v.site.url + path}, nil) })
}

// click presses the mouse where an element is, once it is scrolled to.
func (v *visitor) click(selector string) {
	v.t.Helper()
	var at struct{ X, Y float64 }
	v.eval(`(() => { const e = document.querySelector(`+quoted(selector)+`); e.scrollIntoView({block: "center", behavior: "instant"});
		const r = e.getBoundingClientRect(); return {x: r.x + r.width/2, y: r.y + r.height/2} })()`, &at)
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		v.must(v.session, "Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1}, nil)
	}
}

func (v *visitor) clickAway(selector string) {
	v.t.Helper()
	v.load("a click on "+selector, func() { v.click(selector) })
}

var keys = map[string]map[string]any{
	"Tab":   {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9},
	"Enter": {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
	"Space": {"key": " ", "code": "Space", "windowsVirtualKeyCode": 32, "text": " "},
	"Down":  {"key": "ArrowDown", "code": "ArrowDown", "windowsVirtualKeyCode": 40},
}

func (v *visitor) press(key string) {
	v.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		event := map[string]any{"type": kind}
		for name, value := range keys[key] {
			if kind == "keyDown" || name != "text" {
				event[name] = value
			}
		}
		v.must(v.session, "Input.dispatchKeyEvent", event, nil)
	}
}

// tabTo presses Tab until an element has the focus, and checks that each one on the way shows it.
func (v *visitor) tabTo(selector string) {
	v.t.Helper()
	for range 40 {
		v.press("Tab")
		var now struct {
			Is, Shown bool
			What      string
		}
		v.eval(`(() => { const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
			return {is: e.matches(`+quoted(selector)+`), what: e.outerHTML.slice(0, 80),
				shown: s.outlineStyle != "none" && parseFloat(s.outlineWidth) >= 2 && r.top > -2 && r.bottom < innerHeight + 2} })()`, &now)
		if !now.Shown && now.What != "" && !strings.HasPrefix(now.What, "<body") {
			v.t.Errorf("%s: the focus is not to be seen on %s", v.name, now.What)
		}
		if now.Is {
			return
		}
	}
	v.t.Fatalf("%s: no Tab leads to %s", v.name, selector)
}

// keyAway goes to an element by Tab, and presses a key there.
func (v *visitor) keyAway(selector, key string) {
	v.t.Helper()
	v.tabTo(selector)
	v.load(key+" on "+selector, func() { v.press(key) })
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// look keeps a picture of the whole page and checks what holds for every page: it fits the width, every
// target is large enough, nothing moves, and axe-core finds nothing.
func (v *visitor) look(name string) {
	v.t.Helper()
	v.shot++
	what := fmt.Sprintf("%s-%02d-%s", v.name, v.shot, name)
	var r struct{ Data []byte }
	v.must(v.session, "Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &r)
	if err := os.WriteFile(filepath.Join(v.site.shots, what+".png"), r.Data, 0o644); err != nil {
		v.t.Fatal(err)
	}
	var page struct {
		Over          float64
		Small, Moving []string
	}
	v.eval(`(() => { const all = [...document.querySelectorAll("*")]; return {
		over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
		small: [...document.querySelectorAll("button, label")].filter(e => { const r = e.getBoundingClientRect(); return r.width < 44 || r.height < 44 }).map(e => e.textContent),
		moving: all.filter(e => { const s = getComputedStyle(e); return s.animationName != "none" || parseFloat(s.transitionDuration) > 0 }).map(e => e.tagName) } })()`, &page)
	if page.Over > 0 || len(page.Small) > 0 || len(page.Moving) > 0 {
		v.t.Errorf("%s: %v px too wide; too small %q; moving %q", what, page.Over, page.Small, page.Moving)
	}
	if v.axe == "" {
		return
	}
	v.must(v.session, "Emulation.setScriptExecutionDisabled", map[string]any{"value": false}, nil)
	defer v.must(v.session, "Emulation.setScriptExecutionDisabled", map[string]any{"value": !strings.HasSuffix(v.name, "-scripts")}, nil)
	var found struct {
		Result struct{ Value string }
	}
	v.must(v.session, "Runtime.evaluate", map[string]any{"awaitPromise": true, "returnByValue": true, "expression": v.axe + `;
		axe.run(document, {resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}).then(r => JSON.stringify({passes: r.passes.length,
			violations: r.violations.map(x => x.id + ": " + x.help + " " + x.nodes.map(n => n.html.slice(0, 120)).join(" | "))}))`}, &found)
	var said struct {
		Passes     int
		Violations []string
	}
	if err := json.Unmarshal([]byte(found.Result.Value), &said); err != nil {
		v.t.Fatalf("%s: axe-core: %v", what, err)
	}
	if said.Passes < 10 || len(said.Violations) > 0 {
		v.t.Errorf("%s: axe-core passes %d rules and finds\n%s", what, said.Passes, strings.Join(said.Violations, "\n"))
	}
}

// says checks the page's message about what was done, which is in its title too.
func (v *visitor) says(want string) {
	v.t.Helper()
	var got struct{ Status, Title string }
	v.eval(`({status: document.querySelector("[role=status]")?.textContent ?? "", title: document.title})`, &got)
	if !strings.Contains(got.Status, want) || !strings.Contains(got.Title, got.Status) {
		v.t.Errorf("%s: it says %q in %q, want %q", v.name, got.Status, got.Title, want)
	}
}

// holds checks what is recorded.
func (v *visitor) holds(mail, open, click consent.State) {
	v.t.Helper()
	rs, err := v.site.store.Lookup(context.Background(), v.site.scope, []consent.Address{v.site.who})
	if err != nil || rs[0].Err != nil {
		v.t.Fatal(rs, err)
	}
	got := [3]consent.State{rs[0].Scope.Mail.State, rs[0].Scope.Open.State, rs[0].Scope.Click.State}
	if want := [3]consent.State{mail, open, click}; got != want {
		v.t.Errorf("%s: recorded is %v, want %v", v.name, got, want)
	}
}

// firstScreen checks that a phone shows the headline, whose mail it is and both buttons at once.
func (v *visitor) firstScreen() {
	v.t.Helper()
	var bottoms map[string]float64
	v.eval(`Object.fromEntries(["h1", ".who", "button[value=unsubscribe]", "button[value=stop-tracking]"].map(s => [s, document.querySelector(s).getBoundingClientRect().bottom]))`, &bottoms)
	for what, bottom := range bottoms {
		if bottom > float64(phone.height) {
			v.t.Errorf("%s: %s ends at %v px, below a phone's first screen", v.name, what, bottom)
		}
	}
	var sizes []struct{ W, H float64 }
	v.eval(`["unsubscribe", "stop-tracking"].map(s => { const e = document.querySelector("button[value=" + s + "]"), r = e.getBoundingClientRect(); return {w: r.width, h: r.height} })`, &sizes)
	if sizes[0].W != sizes[1].W || sizes[0].H != sizes[1].H {
		v.t.Errorf("%s: the two buttons are not equal: %v", v.name, sizes)
	}
}

var words = map[string]struct{ unsubscribed, undone, trackingOff, asked, confirmed string }{
	"en": {"You are unsubscribed.", "It is as it was before.", "Tracking is off.", "Almost done", "Confirmed"},
	"de": {"Sie sind abgemeldet.", "Es ist wieder wie vorher.", "Das Tracking ist beendet.", "Fast fertig", "Bestätigt"},
}

// The page behind the link, as people use it. Pictures of it are kept with go test -artifacts.
func TestPage(t *testing.T) {
	t.Parallel()
	c := startChromium(t)
	checker, shots := axe(t), t.ArtifactDir()
	everyWay(t, c, checker, shots)
	everybody(t, c, checker, shots)
}

// everyWay goes every way through the page, by mouse and by keyboard.
func everyWay(t *testing.T, c *chromium, checker, shots string) {
	n := 0
	for lang, say := range words {
		for _, w := range []window{phone, desktop} {
			for _, dark := range []bool{false, true} {
				n++
				w := window{w.width, w.height, dark, n%2 == 0}
				t.Run(lang+" "+w.String(), func(t *testing.T) {
					t.Parallel()
					s := newPageSite(t, shots, lang, w.dark)
					v := s.visitor(c, w, lang, checker)
					v.visit(s.link(lang))
					v.look("page")
					if w.width == phone.width {
						v.firstScreen()
					} else {
						v.axe = "" // the rest is as on a phone
					}

					v.clickAway("button[value=unsubscribe]")
					v.says(say.unsubscribed)
					v.holds(consent.Unsubscribed, "", "")
					v.look("unsubscribed")
					v.keyAway("button[value=undo]", "Enter")
					v.says(say.undone)
					v.holds(consent.Subscribed, "", "")

					v.keyAway("button[value=stop-tracking]", "Space")
					v.says(say.trackingOff)
					v.holds(consent.Subscribed, consent.Denied, consent.Denied)
					v.look("tracking-off")

					// A consent: nothing is ticked but what holds, yes is as easy as no.
					v.click("label:has([name=open][value=granted])")
					v.clickAway("button[value=save]")
					v.says(say.asked)
					v.holds(consent.Subscribed, consent.Denied, consent.Denied)
					v.look("asked")
					link := s.confirmLink()
					v.visit(link)
					v.holds(consent.Subscribed, consent.Denied, consent.Denied)
					v.look("confirm")
					v.keyAway("button[value=confirm]", "Enter")
					v.says(say.confirmed)
					v.holds(consent.Subscribed, consent.Granted, consent.Denied)
					v.look("confirmed")

					// The page behind a confirmation is the page: back out again, with the keys of a radio group.
					v.tabTo("[name=open]")
					v.press("Down")
					v.keyAway("button[value=save]", "Enter")
					v.holds(consent.Subscribed, consent.Denied, consent.Denied)

					v.visit(link)
					v.look("confirmed-before")
					v.visit("/u/nonsense")
					v.look("bad-link")
				})
			}
		}
	}
}

// everybody looks at every language on a phone, and as people do who see or move in another way.
func everybody(t *testing.T, c *chromium, checker, shots string) {
	for _, lang := range []string{"en", "de", "fr", "es", "it", "nl", "pt", "pl"} {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			s := newPageSite(t, shots, lang, lang > "fr")
			v := s.visitor(c, phone, lang, checker)
			v.visit(s.link(lang))
			v.firstScreen()
			v.look("page")
			narrow := phone
			narrow.width, narrow.height = 320, 256 // 1280x1024 at 400 %, WCAG 2.2 §1.4.10
			v = s.visitor(c, narrow, lang, "")
			v.visit(s.link(lang))
			v.look("page")
			v.clickAway("button[value=stop-tracking]")
			v.look("tracking-off")
		})
	}
	t.Run("forced colours", func(t *testing.T) {
		t.Parallel()
		s := newPageSite(t, shots, "en", true)
		v := s.visitor(c, phone, "forced-colours", checker)
		v.media("forced-colors", "active")
		v.visit(s.link("en"))
		v.clickAway("button[value=unsubscribe]")
		v.look("unsubscribed")
		v.tabTo("button[value=undo]")
	})
}

var pageLink = regexp.MustCompile(`http://mail\.example\.org(/u/c/[A-Za-z0-9_-]+)`)
