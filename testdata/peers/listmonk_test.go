package peers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// listmonkVersion is the one that is built here, from Go's module proxy.
const listmonkVersion = "v1.1.0"

// listmonk is one that runs, with a database of its own.
type listmonk struct {
	*process
	url  string
	with string // what it is, and on what it runs
}

// startListmonk builds listmonk, and runs it on a PostgreSQL of its own until the test ends.
func startListmonk(t testing.TB) *listmonk {
	t.Helper()
	socket, postgres := startPostgres(t)
	said, err := exec.Command("go", "mod", "download", "-json", "github.com/knadh/listmonk@"+listmonkVersion).Output()
	var module struct{ Dir, Error string }
	if json.Unmarshal(said, &module) != nil || module.Dir == "" {
		t.Skipf("listmonk %s cannot be fetched here: %v %s", listmonkVersion, err, module.Error)
	}
	// It wants its files where it runs. Those of its pages are not there, since they are made by npm; mail needs none.
	dir := folder(t)
	build := exec.Command("go", "build", "-o", dir+"/listmonk", "./cmd")
	build.Dir, build.Env = module.Dir, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if said, err := finish(build); err != nil {
		t.Skipf("listmonk %s cannot be built here: %v %s", listmonkVersion, err, tail(said, 3))
	}
	for _, part := range []string{"static", "i18n"} {
		if err := os.CopyFS(filepath.Join(dir, part), os.DirFS(filepath.Join(module.Dir, part))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"queries.sql", "schema.sql", "config.toml.sample"} {
		write(t, filepath.Join(dir, name), file(t, filepath.Join(module.Dir, name)))
	}
	write(t, dir+"/frontend/dist/favicon.png", "")
	write(t, dir+"/frontend/dist/frontend/index.html", "")
	port := freePort(t)
	write(t, dir+"/config.toml", fmt.Sprintf(`[app]
address = "127.0.0.1:%s"
admin_username = "admin"
admin_password = "secret"
[db]
host = %q
port = 5432
user = "listmonk"
password = "any"
database = "postgres"
ssl_mode = "disable"
max_open = 25
max_idle = 25
max_lifetime = "300s"
`, port, socket))
	install := exec.Command(dir+"/listmonk", "--install", "--yes")
	install.Dir = dir
	if said, err := finish(install); err != nil {
		t.Fatalf("listmonk --install: %v\n%s", err, said)
	}
	cmd := exec.Command(dir + "/listmonk")
	cmd.Dir = dir
	l := &listmonk{start(t, cmd), "http://127.0.0.1:" + port, "listmonk " + listmonkVersion[1:] + ", " + postgres}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("listmonk said:\n%s", tail(l.log.text(), 40))
		}
	})
	l.awaitUp(t, 1)
	return l
}

// awaitUp waits until listmonk was started so many times, and answers.
func (l *listmonk) awaitUp(t testing.TB, times int) {
	t.Helper()
	l.ready(t, func() bool {
		if strings.Count(l.log.text(), "http server started") < times {
			return false
		}
		resp, err := http.Get(l.url + "/health")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// startPostgres runs a PostgreSQL, without a network, until the test ends. Its superuser is listmonk.
func startPostgres(t testing.TB) (socket, version string) {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Skip("PostgreSQL is not here, as Debian installs it; this test needs a real one (make need installs it on Debian)")
	}
	bin, dir := filepath.Dir(found[len(found)-1]), folder(t)
	// It refuses to run as root; Debian's package has a user for it.
	as := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Skipf("PostgreSQL has no user: %v", err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	program := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.SysProcAttr = dir, as
		return cmd
	}
	if said, err := finish(program("initdb", "-D", dir+"/data", "-U", "listmonk", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")); err != nil {
		t.Fatalf("initdb: %v\n%s", err, said)
	}
	p := start(t, program("postgres", "-D", dir+"/data", "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off"))
	p.ready(t, func() bool { return strings.Contains(p.log.text(), "ready to accept connections") })
	said, err := finish(program("postgres", "--version"))
	if err != nil {
		t.Fatal(err)
	}
	return dir, "PostgreSQL " + strings.Fields(said)[2]
}

// call asks listmonk's API as its administrator does, and reads what it answers with into data, unless that is nil.
func (l *listmonk) call(t testing.TB, method, path string, body, data any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, l.url+"/api"+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", "secret")
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %v %s %s", method, path, err, resp.Status, said)
	}
	if data == nil {
		return
	}
	if err := json.Unmarshal(said, &struct{ Data any }{data}); err != nil {
		t.Fatalf("%s %s: %v %s", method, path, err, said)
	}
}

// campaign sends a campaign of that name to a list, and waits until listmonk has done with it.
func (l *listmonk) campaign(t testing.TB, name, body string, list int) (uuid string) {
	t.Helper()
	var made struct {
		ID   int
		UUID string
	}
	l.call(t, "POST", "/campaigns", map[string]any{"name": name, "subject": "Books", "from_email": "The shop <" + campaignSender(name) + ">", "lists": []int{list},
		"type": "regular", "content_type": "html", "body": body, "messenger": "email", "template_id": 1}, &made)
	path := fmt.Sprintf("/campaigns/%d", made.ID)
	l.call(t, "PUT", path+"/status", map[string]string{"status": "running"}, nil)
	l.ready(t, func() bool {
		var now struct {
			Status string
			Sent   int
		}
		l.call(t, "GET", path, nil, &now)
		if now.Status == "finished" && now.Sent != 4 {
			t.Errorf("listmonk counts %d mails of campaign %s as sent", now.Sent, name)
		}
		return now.Status == "finished"
	})
	return made.UUID
}

// campaignSender is whom a campaign is from.
func campaignSender(name string) string { return name + "@" + dkimDomain }

// A real listmonk sends real campaigns to four people, each with another consent: one with what opaque_links is in the
// recipes, then with what else it can be.
func TestRecipeListmonk(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds listmonk")
	}
	l := startListmonk(t)
	end := startSink(t)
	// The scope is listmonk's own word: by default it would be another. Nobody is at listmonk's address to be told.
	g := recipeGateway(t, end.url(), `mode = "cutthrough"`, `mode = "spool"`, `default_scope = "newsletter"`, `default_scope = "other"`, "[unsubscribe]", "[unsubscribe]\nchain = false")
	g.put(t, "open@example.org", `{"open":"granted"}`)
	g.put(t, "click@example.org", `{"click":"granted"}`)

	dir := prepare(t, "listmonk", g)
	var settings map[string]any
	l.call(t, "GET", "/settings", nil, &settings)
	if err := json.Unmarshal([]byte(file(t, dir+"/settings.json")), &settings); err != nil {
		t.Fatal(err)
	}
	l.call(t, "PUT", "/settings", settings, nil)
	l.awaitUp(t, 2)

	type subscriber struct {
		ID    int
		UUID  string
		Lists []struct {
			Status string `json:"subscription_status"`
		}
	}
	people := map[string]*subscriber{"none": {}, "open": {}, "click": {}, "both": {}}
	var list struct{ ID int }
	l.call(t, "POST", "/lists", map[string]any{"name": "newsletter", "type": "private", "optin": "single"}, &list)
	for who, made := range people {
		l.call(t, "POST", "/subscribers", map[string]any{"email": who + "@example.org", "name": who, "status": "enabled", "lists": []int{list.ID}}, made)
	}
	body := file(t, dir+"/campaign.html")

	// judge looks at the copy of a campaign for one, with so many of listmonk's links, and returns our own link.
	judge := func(name, uuid, who string, counted int) (link string) {
		t.Helper()
		m := end.await(t, campaignSender(name), who+"@example.org")
		g.verify(t, m)
		g.openDKIM(t, m)
		header, body, _ := strings.Cut(string(m.text), "\r\n\r\n")
		html, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
		if err != nil {
			t.Fatal(err)
		}
		opens, clicks := who == "open" || who == "both", who == "click" || who == "both"
		own := uuid + "/" + people[who].UUID
		once := func(is bool) int { return map[bool]int{true: 1}[is] }
		for part, want := range map[string]int{
			"https://lists.example.org/campaign/" + own + "/px.png": once(opens),
			"https://lists.example.org/link/":                       counted,
			`">Books</a>`:                                           once(counted > 0),
			"Books":                                                 1,
			`"https://www.example.org/membership/"`:                 once(!clicks),
			`">Membership</a>`:                                      1,
			`"https://lists.example.org/subscription/` + own:        1, // its own unsubscribe link stands
			`"` + linkPrefix:                                        1,
			"Löwengasse, " + who:                                    1,
			"data-consent-href":                                     0,
		} {
			if n := strings.Count(string(html), part); n != want {
				t.Errorf("campaign %s for %s: %q is there %d times, not %d\n%s", name, who, part, n, want, m.text)
			}
		}
		if n := len(regexp.MustCompile(`https://lists\.example\.org/link/[0-9a-f-]{36}/`+own).FindAll(html, -1)); n != counted {
			t.Errorf("campaign %s for %s: %d links of this person's", name, who, n)
		}
		fields := regexp.MustCompile(`(?m)^(?:List-Unsubscribe: <(.*)>|List-Unsubscribe-Post: List-Unsubscribe=One-Click)\r?$`).FindAllStringSubmatch(header, -1)
		if len(fields) != 2 || strings.Count(header, "\nList-") != 2 || !strings.HasPrefix(fields[0][1], linkPrefix) || strings.Contains(header, "X-Consent-") {
			t.Fatalf("campaign %s for %s: the header\n%s", name, who, header)
		}
		return fields[0][1]
	}

	links := map[string]string{}
	keep := l.campaign(t, "keep", body, list.ID)
	for who, counted := range map[string]int{"none": 1, "open": 1, "click": 2, "both": 2} {
		links[who] = judge("keep", keep, who, counted)
	}
	// What listmonk tells its operator passes here too, and counts as marketing.
	if m := end.await(t, "lists@shop.example.net", "operator@example.net"); !strings.Contains(string(m.text), "\r\nList-Unsubscribe: <"+linkPrefix) {
		t.Errorf("listmonk's word to its operator:\n%s", m.text)
	}

	// The one click of a mailbox, and the next campaign is refused to this person alone.
	oneClick := func(address string) {
		t.Helper()
		resp, err := http.PostForm(address, url.Values{"List-Unsubscribe": {"One-Click"}})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("one click: %s", resp.Status)
		}
	}
	oneClick(strings.Replace(links["both"], "https://mail.example.org", "http://"+g.page, 1))
	said := func(what string, times int) {
		t.Helper()
		g.ready(t, func() bool { return strings.Count(g.log.text(), what) == times })
	}
	reconfigure := func(old, new string, times int) {
		t.Helper()
		path := filepath.Join(g.dir, "consentgate.toml")
		write(t, path, replaced(t, file(t, path), old, new))
		g.cmd.Process.Signal(syscall.SIGHUP)
		said("the configuration was read again", times)
	}
	reconfigure(`opaque_links = "keep"`, `opaque_links = "unlink"`, 1)
	unlink := l.campaign(t, "unlink", body, list.ID)
	for who, counted := range map[string]int{"none": 0, "open": 0, "click": 2} {
		judge("unlink", unlink, who, counted)
	}
	said(`answer="550 5.7.1 the recipient has unsubscribed`, 1)

	reconfigure(`opaque_links = "unlink"`, `opaque_links = "reject"`, 2)
	reject := l.campaign(t, "reject", body, list.ID)
	judge("reject", reject, "click", 2)
	said(`answer="550 5.7.1 the recipient has unsubscribed`, 2)
	said(`answer="550 5.7.1 a click counter's destination cannot be read`, 2)
	g.ready(t, func() bool { return len(end.of("", campaignSender("reject"))) == 2 })
	for _, report := range end.of("", campaignSender("reject")) {
		if !regexp.MustCompile(`(?m)^Final-Recipient: rfc822; ?(none|open)@example\.org\r$`).Match(report.text) {
			t.Errorf("the report:\n%s", report.text)
		}
	}

	for name, got := range map[string]string{"keep": "none open click both", "unlink": "none open click", "reject": "click"} {
		for who := range people {
			want := 0
			if strings.Contains(got, who) {
				want = 1
			}
			if n := len(end.of(campaignSender(name), who+"@example.org")); n != want {
				t.Errorf("%d copies of campaign %s for %s, want %d", n, name, who, want)
			}
		}
	}
	// It does not read the answer to a message's text; the recipe says so.
	if strings.Contains(l.log.text(), "error sending message") {
		t.Error("listmonk names who was refused")
	}
	// What unsubscribe.chain posts to the address that listmonk gave is understood there.
	who := people["open"]
	oneClick(l.url + "/subscription/" + keep + "/" + who.UUID)
	l.call(t, "GET", fmt.Sprintf("/subscribers/%d", who.ID), nil, who)
	if len(who.Lists) != 1 || who.Lists[0].Status != "unsubscribed" {
		t.Errorf("after one click at listmonk: %+v", who.Lists)
	}
	note(t, "listmonk", l.with+"; campaigns of its own to four people, each with another consent; it does not hear of refusals")
}
