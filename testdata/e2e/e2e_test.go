package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// delivery is one message for one person: what was sent, and what it was answered.
type delivery struct {
	job
	message  *message
	file     string // the text, not doubled dots
	text     []byte // as submitted
	consents consents
	name     string // of the consents
	machine  bool
	signed   bool // the copy must bear our signature
	answer   answer
}

// TestCorpus sends all of the corpus through the gateway and judges every copy.
//
// Three rounds: every message to four people by smtplib, with a From that is signed for; every
// message as it was found to one of them in turn by swaks; and machine mail from the null sender.
func TestCorpus(t *testing.T) {
	if testing.Short() {
		t.Skip("the whole corpus takes a minute")
	}
	needs(t, "python3")
	messages := readCorpus(t)
	redis := freeAddress(t)
	startRedis(t, redis)
	next := startSink(t)
	s := newSite(t,
		`urls = ["smtp://127.0.0.1:1"]`, `urls = ["smtp://`+next.addr+`"]`,
		`store = "file:DIR/state/consent.db"`, `store = "redis://`+redis+`/0"`)
	g := s.start(t)
	for _, p := range people {
		if p.open || p.click {
			g.agree(t, "default", p.name+"@example.org", p.open, p.click)
		}
	}

	dir := t.TempDir()
	var smtplib, swaks, machine []*delivery
	for i := range messages {
		m := &messages[i]
		found := spill(t, dir, fmt.Sprintf("%d.eml", i), m.text)
		aligned := spill(t, dir, fmt.Sprintf("%d.aligned.eml", i), m.aligned)
		for _, p := range people {
			id := fmt.Sprintf("p%d.%s", i, p.name)
			smtplib = append(smtplib, &delivery{job: job{id, id + "@bounce.example.net", p.name + "@example.org", aligned},
				file: aligned, message: m, text: m.aligned, consents: p.consents, name: p.name, signed: true})
		}
		if m.machine {
			id := fmt.Sprintf("m%d", i)
			machine = append(machine, &delivery{job: job{id, "", id + "@example.org", aligned},
				file: aligned, message: m, text: m.aligned, name: "none", machine: true, signed: true})
		}
		p := people[i%len(people)]
		id := fmt.Sprintf("s%d.%s", i, p.name)
		wire := spill(t, dir, fmt.Sprintf("%d.wire", i), stuffed(m.text))
		swaks = append(swaks, &delivery{job: job{id, id + "@bounce.example.net", p.name + "@example.org", wire},
			file: found, message: m, text: m.text, consents: p.consents, name: p.name, signed: domainOf(m.text) == dkimDomain})
	}
	send := func(t *testing.T, all []*delivery, by func(*testing.T, string, []job) []answer) {
		t.Helper()
		jobs := make([]job, len(all))
		byID := map[string]*delivery{}
		for i, d := range all {
			jobs[i], byID[d.ID] = d.job, d
		}
		for _, a := range by(t, g.smtp, jobs) {
			byID[a.ID].answer = a
		}
	}

	t.Run("smtplib", func(t *testing.T) {
		send(t, smtplib, sendPython)
		judgeAll(t, s, g, next, smtplib)
	})
	t.Run("swaks", func(t *testing.T) {
		send(t, swaks, sendSwaks)
		judgeAll(t, s, g, next, swaks)
	})
	t.Run("machine", func(t *testing.T) {
		if len(machine) < 10 {
			t.Fatalf("the corpus has %d messages of machines only", len(machine))
		}
		send(t, machine, sendPython)
		judgeAll(t, s, g, next, machine)
	})
	if n := len(next.twice); n > 0 {
		t.Errorf("%d copies came twice: %v", n, next.twice[:min(n, 5)])
	}
}

// domainOf is the domain of the From field, as far as these tests need it.
func domainOf(text []byte) string {
	_, domain, _ := strings.Cut(parse(text).get("From"), "@")
	return strings.ToLower(strings.TrimRight(domain, "> \t"))
}

// judgeAll checks the answers against the refusals that are expected, and each copy.
func judgeAll(t *testing.T, s site, g *gateway, next *sink, all []*delivery) {
	t.Helper()
	refused := map[string]refusal{}
	complain := func(d *delivery, wrong string) {
		t.Errorf("%s for %s: %s", d.message.name, d.name, wrong)
	}
	type reading struct {
		ID       string   `json:"id"`
		Original string   `json:"original"`
		Copy     string   `json:"copy"`
		Prefix   string   `json:"prefix"`
		Gone     []string `json:"gone"`
	}
	var readings []reading
	byID := map[string]*delivery{}
	dir := t.TempDir()
	accepted := 0
	for _, d := range all {
		byID[d.ID] = d
		copy := next.get(path{d.From, d.To})
		if d.answer.Code != 250 {
			r := refused[d.message.name]
			r.consents = strings.TrimSpace(r.consents + " " + d.name)
			r.answer = fmt.Sprintf("%d %s", d.answer.Code, d.answer.Text)
			refused[d.message.name] = r
			if copy != nil {
				t.Errorf("%s for %s: answered %s, and yet a copy left", d.message.name, d.name, r.answer)
			}
			continue
		}
		accepted++
		if copy == nil {
			t.Errorf("%s for %s: answered 250, and nothing came to the smarthost", d.message.name, d.name)
			continue
		}
		if _, id, _ := strings.Cut(d.answer.Text, " "); !strings.Contains(parse(copy).get("Received"), " id "+id) {
			t.Errorf("%s for %s: the ID of the answer %q is not in Received: %q", d.message.name, d.name, d.answer.Text, parse(copy).get("Received"))
		}
		out, err := gone(d.text, d.consents, d.machine)
		if err != nil {
			t.Errorf("%s for %s: %v", d.message.name, d.name, err)
			continue
		}
		for _, wrong := range judge(d.text, copy, out, d.machine, d.signed, s.dkimRecord) {
			complain(d, wrong)
		}
		if links := parse(copy).all("List-Unsubscribe"); !d.machine && len(links) == 1 {
			openPage(t, g, d, strings.Trim(links[0], "<>"))
		}
		readings = append(readings, reading{d.ID, d.file, spill(t, dir, d.ID, copy), linkPrefix, append([]string{}, out...)})
	}
	for line := range python(t, readings, "check.py") {
		var r opinion
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("check.py: %v: %s", err, line)
		}
		d := byID[r.ID]
		for _, wrong := range r.judge(d) {
			complain(d, "Python: "+wrong)
		}
	}
	t.Logf("%d copies judged, %d messages refused", accepted, len(refused))

	seen := map[string]string{} // for whom each message was sent
	for _, d := range all {
		seen[d.message.name] = strings.TrimSpace(seen[d.message.name] + " " + d.name)
	}
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		got, want := refused[name], expectedRefusals[name]
		switch {
		case want.answer == "":
			t.Errorf("%s: refused for %s, which is new: %s", name, got.consents, got.answer)
		case !strings.HasPrefix(got.answer, want.answer):
			t.Errorf("%s: refused for another reason than before: %s, want %s", name, got.answer, want.answer)
		}
	}
	for name, people := range seen {
		if got, want := refused[name].consents, both(people, expectedRefusals[name].consents); got != want {
			t.Errorf("%s: refused for %q of %q, want %q", name, got, people, want)
		}
	}
}

// both returns the words of the first list that are in the second.
func both(list, other string) string {
	words := strings.Fields(other)
	return strings.Join(slices.DeleteFunc(strings.Fields(list), func(w string) bool { return !slices.Contains(words, w) }), " ")
}

// openPage follows the link as a reader does.
func openPage(t *testing.T, g *gateway, d *delivery, link string) {
	t.Helper()
	resp, err := http.Get("http://" + g.page + strings.TrimPrefix(link, "https://mail.example.org"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s for %s: the page behind the link says %s", d.message.name, d.name, resp.Status)
	}
}

// opinion is what check.py says of a copy.
type opinion struct {
	ID              string   `json:"id"`
	ListUnsubscribe []string `json:"list_unsubscribe"`
	ListPost        []string `json:"list_post"`
	Control         []string `json:"control"`
	Links           [][2]any `json:"links"`
	Stray           int      `json:"stray"`
	Left            []string `json:"left"`
	Kept            bool     `json:"kept"`
	Defects         []string `json:"defects"`
	Lost            bool     `json:"lost"`
}

func (o *opinion) judge(d *delivery) []string {
	var wrong []string
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if len(o.Left) > 0 {
		complain("left: %q", o.Left)
	}
	if o.Lost {
		return wrong // where a header ends, and which parts there are, is anybody's guess
	}
	if !d.machine && (len(o.ListUnsubscribe) != 1 || len(o.ListPost) != 1) {
		complain("List-Unsubscribe is %q, List-Unsubscribe-Post %q", o.ListUnsubscribe, o.ListPost)
	}
	if len(o.Control) > 0 {
		complain("control fields: %q", o.Control)
	}
	if o.Stray > 0 {
		complain("%d links of ours where nothing may be changed", o.Stray)
	}
	if !o.Kept {
		complain("a part that must stay as it is has other bytes")
	}
	if len(o.Defects) > 0 {
		complain("defects that the original has not: %q", o.Defects)
	}
	for _, l := range o.Links {
		if n, ok := l[1].(float64); !ok || n > 1 {
			complain("%v links of ours in a part of type %v", l[1], l[0])
		}
	}
	return wrong
}

// refusal is a message of the corpus that is not taken, and why.
type refusal struct {
	answer   string // how it begins
	consents string // for whom
}

// expectedRefusals are all messages of the corpus that are not taken, by what a client of the
// first round is told.
var expectedRefusals = map[string]refusal{
	// SPEC 5: a bare CR or LF, or a NUL (RFC 5321 §2.3.8).
	"mail/spamassassin-html/data-spam-2-00619.8b327d9ed6741fb05ac4a180a5f776c6.txt.eml": {bareCR, everybody},
	"mail/stalwart/resources-eml-thirdparty-005.eml":                                    {bareCR, everybody},
	"mail/stalwart/resources-eml-legacy-049.eml":                                        {bareCR, everybody}, // it ends with CR CR LF
	// SPEC 11: a text in an encoding that nobody can search ("plain", "spam", "text/html", "qp",
	// "x-gzip64" …), for those whose consent is missing.
	"mail/mikel/spec-fixtures-emails-error_emails-content_transfer_encoding_plain.eml":         {unknownEncoding, notBoth},
	"mail/mikel/spec-fixtures-emails-error_emails-content_transfer_encoding_qp_with_space.eml": {unknownEncoding, notBoth},
	"mail/mikel/spec-fixtures-emails-error_emails-content_transfer_encoding_spam.eml":          {unknownEncoding, notBoth},
	"mail/mikel/spec-fixtures-emails-error_emails-content_transfer_encoding_text-html.eml":     {unknownEncoding, notBoth},
	"mail/mime4j/core-src-test-resources-mimetools-testmsgs-x-gzip64.eml":                      {unknownEncoding, notBoth},
	"mail/stalwart/resources-eml-thirdparty-004.eml":                                           {unknownEncoding, notBoth},
	// Pieces of a message, and encoded messages in place of the body: readers show them, and they cannot
	// be searched.
	"mail/mime4j/core-src-test-resources-mimetools-testmsgs-multi-2gifs-base64.eml":       {messageInPlace, notBoth},
	"mail/mime4j/core-src-test-resources-testmsgs-bad-newlines-multiple-parts-base64.eml": {messageInPlace, notBoth},
	"mail/mime4j/core-src-test-resources-testmsgs-base64encoded-rfc822message-nested.eml": {messageInPlace, notBoth},
	"mail/mime4j/core-src-test-resources-testmsgs-base64encoded-rfc822message.eml":        {messageInPlace, notBoth},
	"mail/mimekit/UnitTests-TestData-partial-message-partial.0.eml":                       {pieceOfMessage, notBoth},
	"mail/mimekit/UnitTests-TestData-partial-message-partial.1.eml":                       {pieceOfMessage, notBoth},
	"mail/mimekit/UnitTests-TestData-partial-message-partial.2.eml":                       {pieceOfMessage, notBoth},
	"mail/mimekit/UnitTests-TestData-partial-rfc2046.0.eml":                               {pieceOfMessage, notBoth},
	"mail/mimekit/UnitTests-TestData-partial-rfc2046.1.eml":                               {pieceOfMessage, notBoth},
	"mail/stalwart/resources-eml-thirdparty-009.eml":                                      {pieceOfMessage, notBoth},
}

const (
	pieceOfMessage = "554 5.6.0 the body cannot be searched for trackers: the body is a piece of a message"
	messageInPlace = "554 5.6.0 the body cannot be searched for trackers: a message stands in place of the body"

	bareCR          = "554 5.6.0 the message holds a bare CR, a bare LF or a NUL"
	unknownEncoding = "554 5.6.0 the body cannot be searched for trackers: a text part has an unknown Content-Transfer-Encoding"

	everybody = "none open click both"
	notBoth   = "none open click"
)
