package browser

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // text comes in UTF-8

	"github.com/consentgate/consentgate/rewrite"
	"github.com/consentgate/consentgate/rewrite/trackers"
)

// corpus is mail that nobody here wrote; it is not part of the repository.
const corpus = "../../../shared/corpus"

const link = "https://mail.example.org/u/AbCdEfGhIjKlMnOpQrStUvWxYz"

// htmlOf returns the HTML that a reader shows, as go-message reads it; nil if there is none.
func htmlOf(text []byte) ([]byte, error) {
	e, err := message.Read(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	var html []byte
	found := errors.New("found")
	err = e.Walk(func(_ []int, e *message.Entity, err error) error {
		if err != nil {
			return err
		}
		typ, _, _ := e.Header.ContentType()
		disposition, _, _ := e.Header.ContentDisposition()
		if typ != "text/html" || disposition == "attachment" {
			return nil
		}
		if html, err = io.ReadAll(e.Body); err != nil {
			return err
		}
		return found
	})
	if err != nil && err != found {
		return nil, err
	}
	return html, nil
}

// copyHTML is the HTML of the copy for a person without any consent; nil if the message does not leave
// for such a person.
func copyHTML(text []byte, images rewrite.Images) ([]byte, error) {
	copy, err := copyOf(text, images)
	if errors.Is(err, rewrite.ErrUnreadable) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return htmlOf(copy)
}

// copyOf is the copy for a person without any consent.
func copyOf(text []byte, images rewrite.Images) ([]byte, error) {
	m, err := rewrite.Parse(rewrite.Bytes(text), int64(len(text)), trackers.Default(), rewrite.Options{LinkPrefix: "https://mail.example.org/u/", Images: images})
	if err != nil {
		return nil, err
	}
	c, err := m.Render(rewrite.Variant{Link: link, OneClick: link, Language: "en"})
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = c.WriteTo(&b)
	return b.Bytes(), err
}

// mail is a message with HTML.
type mail struct {
	name string
	text []byte
	html []byte
}

func readCorpus(t *testing.T) []mail {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(corpus, "*", "*", "*"))
	if len(files) == 0 {
		t.Skipf("no corpus of real mail at %s: nothing to open", corpus)
	}
	var all []mail
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(text, []byte("From ")) { // of the mbox that it was kept in
			_, text, _ = bytes.Cut(text, []byte("\n"))
		}
		if strings.Contains(file, "/html/") {
			text = append([]byte("MIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"), text...)
		}
		text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
		html, err := htmlOf(text)
		if err != nil || len(bytes.TrimSpace(html)) == 0 {
			continue // no HTML, or none that this reader finds
		}
		name, _ := filepath.Rel(corpus, file)
		all = append(all, mail{name, text, html})
	}
	if len(all) < 300 {
		t.Fatalf("%d messages with HTML only", len(all))
	}
	return all
}

// What people set in the environment: EVERY=n opens every nth message only, MAIL=part those that have
// it in their name, KEEP=folder keeps there what looks different.

// every is how many pages of the corpus there are for one that is opened: a sample within make test,
// all of them (EVERY=1) within make browser.
func every() int {
	if n, err := strconv.Atoi(os.Getenv("EVERY")); err == nil && n > 0 {
		return n
	}
	return 25
}

// tabs is how many pages are open at once.
const tabs = 6

// TestCorpus opens the original and the copies without consent of the mail with HTML.
func TestCorpus(t *testing.T) {
	c := startChromium(t)
	var all []mail
	for i, m := range readCorpus(t) {
		if only := os.Getenv("MAIL"); only == "" && i%every() == 0 || only != "" && strings.Contains(m.name, only) {
			all = append(all, m)
		}
	}
	var mu sync.Mutex
	r := &seen.corpus
	verdicts := map[string]verdict{}
	t.Run("pages", func(t *testing.T) {
		for n := range tabs {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				b := c.newTab(t)
				for i := n; i < len(all); i += tabs {
					m := all[i]
					v := b.judge(m.name, m.html, func(images rewrite.Images) ([]byte, error) { return copyHTML(m.text, images) })
					for _, p := range v.problems {
						t.Errorf("%s: %s", m.name, p)
					}
					for url, why := range v.unseen {
						if fetchedUnseen[url] == "" {
							t.Errorf("%s: the copy fetches %s, a picture that nobody sees (%s), and the list has no reason", m.name, url, why)
						}
					}
					if v.different != "" && looksDifferent[m.name] == "" {
						t.Errorf("%s: the copy looks different (%s), and the list has no reason", m.name, v.different)
					}
					mu.Lock()
					r.add(v)
					verdicts[m.name] = v
					mu.Unlock()
				}
			})
		}
	})
	t.Log(r)
	fetched := map[string]bool{}
	for name, v := range verdicts {
		for url := range v.unseen {
			fetched[url] = true
		}
		if looksDifferent[name] != "" && v.different == "" {
			t.Errorf("%s: looks the same now; take it off the list", name)
		}
	}
	if every() > 1 || os.Getenv("MAIL") != "" {
		return
	}
	for name := range looksDifferent {
		if _, ok := verdicts[name]; !ok {
			t.Errorf("%s: is not in the corpus; take it off the list", name)
		}
	}
	for url := range fetchedUnseen {
		if !fetched[url] {
			t.Errorf("%s: is not fetched unseen any more; take it off the list", url)
		}
	}
}

// looksDifferent lists the mail whose copy without consent does not look like the original, and why.
var looksDifferent = map[string]string{
	"mail/spamassassin-html/data-spam-1-00261.12b64e557e52daf5fc5a52e47df2f4e3.txt.eml": "a pixel of no stated size stood in a centred line, which moves by 2 px without it",
	"mail/spamassassin-html/data-spam-2-00699.46c52d8e3b9db13ea2e9816f1c919961.txt.eml": "text behind </html> goes on in the paragraph that the mail left open; the footer, before </body>, ends that paragraph",
	"mail/spamassassin-html/data-spam-2-00717.835c303709346693354e01b242ff22da.txt.eml": "a mailing list's line behind </body> goes on in the link that the mail left open; the footer, before </body>, ends that link, lest it be a part of it",
	"mail/spamassassin-html/data-spam-2-00850.f57827e297da1c01fe028cfc01e20361.txt.eml": "a mailing list put text behind </html>, inside of a paragraph that the mail left open; the footer, before </body>, ends that paragraph",
	"mail/spamassassin-html/data-spam-2-01059.3bb25dd5704c3e29081ef39c7cb0a200.txt.eml": "text behind </html> goes on in the paragraph that the mail left open; the footer, before </body>, ends that paragraph",
}

// fetchedUnseen lists the pictures that nobody sees in this window and that a copy fetches all the
// same, and why that is right.
var fetchedUnseen = map[string]string{
	"https://gallery.mailchimp.com/fd92d4d6912bf051aceebbc27/images/8c77567e-6750-45ab-b0c4-fd24bdc10200.png": "a button for telephones: the style sheet shows it on narrow screens",
	"http://image.email.personalcapital.com/lib/fe92127274650d7c7c/m/1/pc_template_02.png":                    "a line between two columns, 1 px wide by its cell: how high it is only the picture knows",
}
