package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
)

// teller is a smarthost that quotes addresses in what it says, in every way that smarthosts do. Who is called later is put
// off the first time; who is called unknown is refused.
type teller struct {
	addr string
	mu   sync.Mutex
	put  map[string]bool
	took []path
}

func startTeller(t testing.TB) *teller {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &teller{addr: l.Addr().String(), put: map[string]bool{}}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &tellerSession{teller: s}, nil }))
	server.Domain = "teller.example.org"
	server.EnableDSN, server.EnableSMTPUTF8 = true, true
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; err != nil && !errors.Is(err, smtp.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("teller: %v", err)
		}
	})
	return s
}

type tellerSession struct {
	*teller
	path path
}

func (s *tellerSession) Mail(from string, _ *smtp.MailOptions) error { s.path.from = from; return nil }

func (s *tellerSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.path.to = to
	local, domain, _ := strings.Cut(to, "@")
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case strings.Contains(to, "later") && !s.put[s.path.from+" "+to]:
		s.put[s.path.from+" "+to] = true
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1},
			Message: fmt.Sprintf("<%s>: greylisted, see https://teller.example.org/why?rcpt=%s%%40%s&s=%s=40%s or %s", to, local, domain, local, domain, strings.ToUpper(to))}
	case strings.Contains(to, "unknown"):
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1},
			Message: fmt.Sprintf("%s: no such user; \"%s\" <%s>, rfc822;%s+40%s, for %s", local, to, to, local, domain, s.path.from)}
	}
	return nil
}

func (s *tellerSession) Data(r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = append(s.took, s.path)
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: "queued for " + s.path.to}
}

func (s *tellerSession) Reset()        { s.path = path{} }
func (s *tellerSession) Logout() error { return nil }

// The whole story of a message is found in the log by its ID, and that of its connection by the beginning of it: from the
// first byte to what the smarthost, the sender and the webhook were told. No line, at the most talkative level, holds
// anybody's address, whoever quoted it.
func TestStory(t *testing.T) {
	t.Parallel()
	const (
		sender  = "rosalind.sender@shop.example.net"
		fine    = "fineperson@example.org"
		later   = "laterperson@example.org"
		unknown = "unknownperson@example.org"
		left    = "leftperson@example.org"
		foreign = "grüße.person@example.org" // which needs SMTPUTF8
	)
	for _, mode := range []string{"cutthrough", "spool", "stateless"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			next := startTeller(t)
			var mu sync.Mutex
			failed := map[string]bool{}
			hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // each call fails once
				mu.Lock()
				defer mu.Unlock()
				if id := r.Header.Get("webhook-id"); !failed[id] {
					failed[id] = true
					w.WriteHeader(http.StatusInternalServerError)
				}
			}))
			t.Cleanup(hook.Close)
			g := newSite(t, `mode = "cutthrough"`, `mode = "`+mode+"\"\nfirst_retry = \"1s\"", `urls = ["smtp://127.0.0.1:1"]`, `urls = ["smtp://`+next.addr+`"]`,
				`base_url = "https://mail.example.org"`, "base_url = \"https://mail.example.org\"\nwebhook_url = \""+hook.URL+"/\"\nwebhook_events = [\"change\", \"accepted\", \"refused\", \"suppressed\"]\nchain = false",
				`[admin]`, "[log]\nlevel = \"debug\"\n[admin]").start(t)
			if status, said := g.call(t, "PUT", "/v1/consent/default/"+left, `{"mail":"unsubscribed"}`); status != http.StatusOK {
				t.Fatal(status, said)
			}
			d := g.hello(t)
			d.say("MAIL FROM:<" + foreign + ">")
			d.expect("553 5\\.6\\.7")
			send := func(to ...string) string {
				t.Helper()
				d.say("MAIL FROM:<" + sender + ">")
				d.expect("250 ")
				d.say("RCPT TO:<" + foreign + ">")
				d.expect("553 5\\.6\\.7")
				for _, who := range to {
					d.say("RCPT TO:<" + who + ">")
					d.expect("250 ")
				}
				d.say("DATA")
				d.expect("354 ")
				d.raw(strings.ReplaceAll(string(newsletter("marketing")), "news@", "rosalind.sender@") + ".\r\n")
				said, err := d.reply()
				if err != nil {
					t.Fatal(err)
				}
				return said
			}
			var id string
			var story []string // what is to be found by the ID
			if mode == "stateless" {
				for to, want := range map[string]string{fine: "250 ", later: "451 ", unknown: "550 ", left: "550 "} {
					if got := send(to); !strings.HasPrefix(got, want) {
						t.Fatalf("%s is answered %q", to, got)
					} else if to == fine {
						id = strings.TrimPrefix(got, "250 2.0.0 ")
					}
				}
				story = []string{`msg="message received"`, `msg="message forwarded" .*to=f•••@example\.org.* smarthost=.* code=250 reply="queued for f•••@example\.org"`,
					`msg="a call failed and is tried again" id=ID-\S+ queue=copy .*answer=500`, `msg="a call was made" id=ID-\S+ queue=copy answer=200`}
				g.logged(t, `msg="message deferred" .*to=l•••@example\.org.*reply=".*greylisted`)
				g.logged(t, `msg="message refused" .*to=u•••@example\.org.*reply="u•••: no such user`)
			} else {
				got := send(fine, later, unknown, left)
				if !strings.HasPrefix(got, "250 2.0.0 ") {
					t.Fatalf("answered %q", got)
				}
				id = strings.TrimPrefix(got, "250 2.0.0 ")
				story = []string{`level=WARN msg="command refused" id=ID .*command=RCPT`, `msg="message received" id=ID .*from=r•••@shop\.example\.net recipients=4`,
					`msg="message spooled" id=ID`,
					`msg="message forwarded" id=ID .*to=f•••@example\.org.* code=250 reply="queued for f•••@example\.org"`,
					`msg="message deferred" id=ID .*to=l•••@example\.org.* code=451 reply=".*greylisted`,
					`msg="message refused" id=ID .*to=u•••@example\.org.* code=550 reply="u•••: no such user`,
					`level=INFO msg="message suppressed" id=ID .*to=•••|l•••@example\.org.* mail=suppress`,
					`msg="message forwarded" id=ID .*to=l•••@example\.org.* code=250`,
					`msg="report to the sender" id=ID report=ID-\w+ about=failed`,
					`msg="message forwarded" id=ID-\w+ from=<> to=r•••@shop\.example\.net .*machine=true .* code=250`,
					`msg="a call failed and is tried again" id=ID-\S+ queue=copy .*answer=500`, `msg="a call was made" id=ID-\S+ queue=copy answer=200`}
				if mode == "spool" {
					story = append(story, `msg="message waits" id=ID recipients=1 next=`)
				}
			}
			for _, line := range story {
				g.logged(t, strings.ReplaceAll(line, "ID", id))
			}
			connection, _, _ := strings.Cut(id, "-")
			for _, line := range []string{`msg=connected id=ID peer=127\.0\.0\.1 protocol=smtp`, `msg="command refused" id=ID peer=.* command=MAIL`} {
				g.logged(t, strings.ReplaceAll(line, "ID", connection))
			}

			d.say("QUIT")
			d.expect("221 ")
			g.stop(t)
			for _, address := range []string{sender, fine, later, unknown, left, foreign} {
				local, domain, _ := strings.Cut(address, "@")
				clear := regexp.MustCompile(`(?i)` + regexp.QuoteMeta(local) + `|\w{2,}@` + regexp.QuoteMeta(domain))
				for line := range strings.Lines(g.log.text()) {
					if clear.MatchString(line) {
						t.Errorf("an address in clear: %s", line)
					}
				}
			}
			if !strings.Contains(g.log.text(), "•••@example.org") {
				t.Error("no address is masked: the search finds nothing")
			}
		})
	}
}
