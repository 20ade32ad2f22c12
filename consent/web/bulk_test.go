package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
)

const (
	isNDJSON = "Content-Type: application/x-ndjson"
	isCSV    = "Content-Type: text/csv"
)

func TestImportOverHTTP(t *testing.T) {
	d := newDesk(t)
	const lines = `{"address":"anna@example.org","open":"granted","time":"2026-01-01"}
{"address":"ben","open":"granted"}
{"address":"cleo@example.org","mail":"unsubscribed"}
{"address":"cleo@example.org","mail":"subscribed"}
`
	const notes = `{"line":2,"field":"address","detail":"not a mail address: it has no local part, no @ or no domain"}
{"line":4,"kept":["mail"],"detail":"somebody said no, and the line does not say that it is later: give it a time"}
`
	w := d.ask("POST", "/v1/consent?scope=News&notice=n1&dry_run=true", lines, isNDJSON)
	if want := notes + `{"summary":{"lines":4,"changed":2,"unchanged":0,"kept":1,"bad":1},"dry_run":true}` + "\n"; w.Code != 200 || w.Body.String() != want {
		t.Errorf("status %d\n%s", w.Code, w.Body)
	}
	const record = "/v1/consent/news/anna@example.org"
	if w := d.do("GET", record, "", ""); !strings.Contains(w.Body.String(), `"version":0`) {
		t.Errorf("a dry run changed %s", w.Body)
	}
	w = d.ask("POST", "/v1/consent?scope=News&notice=n1", lines, isNDJSON)
	if want := notes + `{"summary":{"lines":4,"changed":2,"unchanged":0,"kept":1,"bad":1}}` + "\n"; w.Code != 200 || w.Body.String() != want {
		t.Errorf("status %d\n%s", w.Code, w.Body)
	}
	if w := d.do("GET", record, "", ""); !strings.Contains(w.Body.String(), `"open":{"time":"2026-01-01T00:00:00Z","source":"import","notice":"n1"}`) {
		t.Error(w.Body)
	}
	w = d.ask("POST", "/v1/consent?time=2026-02-01&columns=Email=address,Name=", "Email,Name,scope,open\nanna@example.org,\"A, B\",news,denied\n", isCSV)
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"changed":1`) {
		t.Errorf("status %d\n%s", w.Code, w.Body)
	}
	if w := d.do("GET", record, "", ""); !strings.Contains(w.Body.String(), `"open":{"time":"2026-02-01T00:00:00Z"`) {
		t.Error(w.Body)
	}
}

func TestWrongBulkRequests(t *testing.T) {
	d := newDesk(t)
	for _, c := range []struct{ method, path, body, header, want string }{
		{"POST", "/v1/consent", "{}", isJSON, "415 Content-Type"},
		{"POST", "/v1/consent", "{}", "X: x", "415 Content-Type"},
		{"POST", "/v1/consent?dryrun=true", "", isNDJSON, "400 dryrun"},
		{"POST", "/v1/consent?dry_run=yes", "", isNDJSON, "400 dry_run"},
		{"POST", "/v1/consent?scope=a&scope=b", "", isNDJSON, "400 scope"},
		{"POST", "/v1/consent?scope=a%20b", "", isNDJSON, "400 scope"},
		{"POST", "/v1/consent?time=yesterday", "", isNDJSON, "400 time"},
		{"POST", "/v1/consent?notice=%C3%BC", "", isNDJSON, "400 notice"},
		{"POST", "/v1/consent?columns=a=address", "", isNDJSON, "400 columns"},
		{"POST", "/v1/consent?columns=a", "", isCSV, "400 columns"},
		{"POST", "/v1/consent?a=%zz", "", isCSV, "400 "},
		{"POST", "/v1/consent", "", isCSV, "400 "},
		{"POST", "/v1/consent", "address,colour\n", isCSV, "400 "},
		{"POST", "/v1/consent", "open,click\n", isCSV, "400 address"},
		{"GET", "/v1/consent?limit=0", "", "X: x", "400 limit"},
		{"GET", "/v1/consent?limit=10001", "", "X: x", "400 limit"},
		{"GET", "/v1/consent?limit=", "", "X: x", "400 limit"},
		{"GET", "/v1/consent?with_addresses=1", "", "X: x", "400 with_addresses"},
		{"GET", "/v1/consent?addresses=true", "", "X: x", "400 addresses"},
		{"GET", "/v1/consent?cursor=nowhere", "", "X: x", "400 cursor"},
		{"GET", "/v1/consent?cursor=nowhere&limit=10", "", "X: x", "400 cursor"},
		{"GET", "/v1/consent", "", "Accept: text/html", "406 Accept"},
	} {
		w := d.ask(c.method, c.path, c.body, c.header)
		var p problem
		json.Unmarshal(w.Body.Bytes(), &p)
		if got := fmt.Sprint(w.Code, " ", p.Field); got != c.want {
			t.Errorf("%s %s: %s, want %s\n%s", c.method, c.path, got, c.want, w.Body)
		}
	}
}

// fill puts n people into the store.
func (d *desk) fill(n int) {
	d.t.Helper()
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, "{\"address\":\"p%d@example.org\",\"open\":\"granted\",\"click\":\"denied\"}\n", i)
	}
	if w := d.ask("POST", "/v1/consent?scope=news", lines.String(), isNDJSON); !strings.Contains(w.Body.String(), fmt.Sprintf(`"changed":%d,`, n)) {
		d.t.Fatal(w.Body)
	}
}

var nextPage = regexp.MustCompile(`^<([^>]+)>; rel="next"$`)

// pages follows the Links and returns all lines, and how many pages they were.
func (d *desk) pages(path string, header ...string) (text string, n int) {
	d.t.Helper()
	for {
		w := d.ask("GET", path, "", header...)
		if w.Code != 200 {
			d.t.Fatalf("%s: status %d\n%s", path, w.Code, w.Body)
		}
		text += w.Body.String()
		n++
		link := w.Header().Get("Link")
		if link == "" {
			return text, n
		}
		m := nextPage.FindStringSubmatch(link)
		if m == nil || n > 100 {
			d.t.Fatalf("Link: %s", link)
		}
		path = m[1]
	}
}

func TestExportOverHTTP(t *testing.T) {
	d := newDesk(t)
	d.fill(25)
	whole := d.ask("GET", "/v1/consent?with_addresses=true", "").Body.String()
	if n := strings.Count(whole, "\n"); n != 25 || strings.Count(whole, "@example.org") != 25 || strings.Contains(whole, "person") {
		t.Errorf("%d lines\n%s", n, whole)
	}
	for limit, want := range map[int]int{1: 25, 10: 3, 24: 2, 25: 1, 10000: 1} {
		if text, n := d.pages(fmt.Sprintf("/v1/consent?with_addresses=true&limit=%d", limit)); text != whole || n != want {
			t.Errorf("limit %d: %d pages, want %d\n%s", limit, n, want, text)
		}
	}
	sealed, _ := d.pages("/v1/consent?limit=10")
	if strings.Contains(sealed, "@") || strings.Count(sealed, `{"person":"`) != 25 {
		t.Error(sealed)
	}
	wholeCSV := d.ask("GET", "/v1/consent", "", "Accept: text/csv").Body.String()
	if text, _ := d.pages("/v1/consent?limit=7", "Accept: application/json;q=0.1, text/csv"); text != wholeCSV || strings.Count(text, "person,scope") != 1 || strings.Count(text, "\n") != 26 {
		t.Errorf("%s\n%s", text, wholeCSV)
	}
}

// grouped is a store whose people share a cursor in groups of four, as a Redis may have them: only
// behind the last of a group nobody comes again.
type grouped struct{ consent.Store }

func (g grouped) Scan(ctx context.Context, from consent.Cursor) iter.Seq2[consent.Person, error] {
	return func(yield func(consent.Person, error) bool) {
		start := 0
		fmt.Sscan(string(from), &start)
		i := 0
		for p, err := range g.Store.Scan(ctx, "") {
			if i >= start {
				if p.Next = consent.Cursor(fmt.Sprint(i / 4 * 4)); i%4 == 3 {
					p.Next = consent.Cursor(fmt.Sprint(i + 1))
				}
				if i < 3 {
					p.Next = ""
				}
				if !yield(p, err) {
					return
				}
			}
			i++
		}
	}
}

func TestPagesOfGroups(t *testing.T) {
	d := newDesk(t)
	d.fill(25)
	d.config.Store = grouped{d.store}
	d.h = NewAdmin(d.config)
	whole := d.ask("GET", "/v1/consent", "").Body.String()
	for _, limit := range []int{1, 3, 4, 5, 24, 25} {
		if text, _ := d.pages(fmt.Sprintf("/v1/consent?limit=%d", limit)); text != whole {
			t.Errorf("limit %d: %d lines instead of %d", limit, strings.Count(text, "\n"), strings.Count(whole, "\n"))
		}
	}
}

// breaking yields n people and then fails.
type breaking struct {
	consent.Store
	n int
}

func (b breaking) Scan(context.Context, consent.Cursor) iter.Seq2[consent.Person, error] {
	return func(yield func(consent.Person, error) bool) {
		for i := range b.n {
			if !yield(consent.Person{Records: []consent.Record{{Scope: "news", Open: consent.Entry{State: consent.Granted}}}, Next: consent.Cursor(fmt.Sprint(i))}, nil) {
				return
			}
		}
		yield(consent.Person{}, fmt.Errorf("%w: gone", consent.ErrUnreachable))
	}
}

func TestExportThatBreaks(t *testing.T) {
	d := newDesk(t)
	for _, n := range []int{0, 10, 10_000} {
		d.config.Store = breaking{d.store, n}
		srv := httptest.NewServer(NewAdmin(d.config))
		for _, path := range []string{"/v1/consent", "/v1/consent?limit=10000"} {
			res, err := http.Get(srv.URL + path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != 503 && err == nil {
				t.Errorf("%s behind %d people: status %d, and the answer looks whole", path, n, res.StatusCode)
			}
		}
		srv.Close()
	}
}

// serve serves the desk with the deadlines of a gateway, but short ones.
func (d *desk) serve() *httptest.Server {
	srv := httptest.NewUnstartedServer(d.h)
	srv.Config.ReadTimeout, srv.Config.WriteTimeout = 100*time.Millisecond, 100*time.Millisecond
	srv.Start()
	d.t.Cleanup(srv.Close)
	return srv
}

// The answer comes while the body is still sent, and both may take longer than other requests.
func TestImportStreams(t *testing.T) {
	d := newDesk(t)
	srv := d.serve()
	body, send := io.Pipe()
	req, err := http.NewRequest("POST", srv.URL+"/v1/consent?scope=news", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	begin := time.Now()
	go func() {
		send.Write([]byte("{\"address\":\"anna@example.org\",\"open\":\"granted\"}\n"))
		for range 200 { // enough to fill the buffers
			send.Write(bytes.Repeat([]byte("nonsense\n"), 10))
		}
	}()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, `{"line":2,`) {
		t.Fatalf("%q, %v", line, err)
	}
	for time.Since(begin) < 300*time.Millisecond { // beyond the server's timeouts
		if _, err := send.Write([]byte("nonsense\n")); err != nil {
			t.Fatal(err)
		}
	}
	send.Close()
	rest, err := io.ReadAll(lines)
	if err != nil || !bytes.Contains(rest, []byte(`{"summary":{"lines":`)) || !bytes.Contains(rest, []byte(`"changed":1,`)) {
		t.Errorf("%v\n%s", err, rest[max(0, len(rest)-300):])
	}
}

// slow takes its time to erase somebody.
type slow struct{ consent.Store }

func (s slow) Erase(ctx context.Context, who consent.Address) error {
	select {
	case <-time.After(300 * time.Millisecond):
		return s.Store.Erase(ctx, who)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestErasureMayTakeLong(t *testing.T) {
	d := newDesk(t)
	d.config.Store = slow{d.store}
	d.h = NewAdmin(d.config)
	req, _ := http.NewRequest("DELETE", d.serve().URL+"/v1/consent/a@example.org", nil)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 204 {
		t.Errorf("status %d", res.StatusCode)
	}
}

// A body that breaks off is said to, and what came before it is made.
func TestImportCutOff(t *testing.T) {
	d := newDesk(t, func(c *AdminConfig) { c.Log = slog.New(slog.DiscardHandler) })
	r := httptest.NewRequest("POST", "/v1/consent?scope=news", io.MultiReader(
		strings.NewReader("{\"address\":\"anna@example.org\",\"open\":\"granted\"}\n{\"address\""), broken{}))
	r.Host, r.Header = "localhost", http.Header{"Content-Type": {"application/x-ndjson"}}
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, r)
	if w.Code != 400 || !strings.Contains(w.Body.String(), "could not be read to its end") {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	if w := d.do("GET", "/v1/consent/news/anna@example.org", "", ""); !strings.Contains(w.Body.String(), `"open":"granted"`) {
		t.Error(w.Body)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }
