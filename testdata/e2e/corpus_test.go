package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// corpus is mail that nobody here wrote; it is not part of the repository.
const corpus = "../../../shared/corpus"

// message is one message of the corpus as it is submitted.
type message struct {
	name    string // its path below the corpus
	text    []byte // CRLF line ends, no mbox line
	aligned []byte // the same with a From of the domain that is signed for
	machine bool   // SPEC 5: it is machine mail if it comes from the null sender
}

// readCorpus returns all messages below mail/ and html/, in the order of their names.
func readCorpus(t testing.TB) []message {
	t.Helper()
	if _, err := os.Stat(corpus); err != nil {
		t.Skipf("the corpus of real mail is not at %s (%v): nothing to send", corpus, err)
	}
	var all []message
	for _, kind := range []string{"mail", "html"} {
		files, err := filepath.Glob(filepath.Join(corpus, kind, "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for i, file := range files { // Glob sorts
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(corpus, file)
			if err != nil {
				t.Fatal(err)
			}
			if kind == "html" {
				text = wrap(i, name, text)
			}
			m := message{name: name, text: submitted(text)}
			m.aligned = align(m.text)
			top := parse(m.text)
			auto, _, _ := strings.Cut(strings.ToLower(top.get("Auto-Submitted")), ";")
			m.machine = top.typ == "multipart/report" || strings.TrimSpace(auto) != "" && strings.TrimSpace(auto) != "no"
			all = append(all, m)
		}
	}
	if len(all) < 900 {
		t.Fatalf("the corpus has %d messages only", len(all))
	}
	return all
}

// submitted does what a client does with a file before it sends it: line ends become CRLF, the
// line that parts messages in an mbox goes, the last line gets an end. A bare CR is no line end
// and stays.
func submitted(text []byte) []byte {
	text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	if bytes.HasPrefix(text, []byte("From ")) {
		_, text, _ = bytes.Cut(text, []byte("\r\n"))
	}
	if !bytes.HasSuffix(text, []byte("\r\n")) {
		text = append(text, "\r\n"...)
	}
	return text
}

var fromField = regexp.MustCompile(`(?i)^from[ \t]*:`)

// align puts one From of the signed domain in place of all that the header has: copies of others
// are not signed.
func align(text []byte) []byte {
	out := []byte("From: Corpus <news@" + dkimDomain + ">\r\n")
	skipping := false
	for len(text) > 0 {
		n := bytes.IndexByte(text, '\n') + 1
		line := text[:n]
		if string(line) == "\r\n" {
			break
		}
		if line[0] != ' ' && line[0] != '\t' {
			skipping = fromField.Match(line)
		}
		if !skipping {
			out = append(out, line...)
		}
		text = text[n:]
	}
	return append(out, text...)
}

// wrap makes a message of an HTML body: the kinds take turns.
func wrap(i int, name string, body []byte) []byte {
	var m bytes.Buffer
	fmt.Fprintf(&m, "From: Shop <shop@example.net>\nTo: reader@example.org\nSubject: %s\nDate: Mon, 23 Nov 2026 10:00:00 +0000\nMessage-ID: <%d@example.net>\nMIME-Version: 1.0\n", name, i)
	part := func(encoding string) {
		fmt.Fprintf(&m, "Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: %s\n\n", encoding)
		switch encoding {
		case "base64":
			text := base64.StdEncoding.EncodeToString(body)
			for len(text) > 76 {
				m.WriteString(text[:76] + "\n")
				text = text[76:]
			}
			m.WriteString(text + "\n")
		case "quoted-printable":
			w := quotedprintable.NewWriter(&m)
			w.Write(body) // into memory
			w.Close()
			m.WriteByte('\n')
		default:
			m.Write(body)
		}
	}
	switch i % 4 {
	case 0:
		part("quoted-printable")
	case 1:
		part("base64")
	case 2:
		part("8bit")
	case 3:
		m.WriteString("Content-Type: multipart/alternative; boundary=\"=_two\"\n\n--=_two\nContent-Type: text/plain; charset=us-ascii; format=flowed\n\nRead the other part.\n--=_two\n")
		part("quoted-printable")
		m.WriteString("\n--=_two--\n")
	}
	return m.Bytes()
}

func TestSubmitted(t *testing.T) {
	for in, want := range map[string]string{
		"a: b\n\nc":                    "a: b\r\n\r\nc\r\n",
		"a: b\r\n\r\nc\r\n":            "a: b\r\n\r\nc\r\n",
		"From x Mon\na: b\n\nFrom y\n": "a: b\r\n\r\nFrom y\r\n",
		"a: b\n\nc\rd\n":               "a: b\r\n\r\nc\rd\r\n",
	} {
		if got := string(submitted([]byte(in))); got != want {
			t.Errorf("submitted(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestAlign(t *testing.T) {
	const from = "From: Corpus <news@" + dkimDomain + ">\r\n"
	for in, want := range map[string]string{
		"To: a\r\nFROM : b\r\n c\r\nX: d\r\n\r\nFrom: e\r\n": from + "To: a\r\nX: d\r\n\r\nFrom: e\r\n",
		"  \r\nFrom: b\r\n\r\n":                              from + "  \r\n\r\n",
		"\r\nbody\r\n":                                       from + "\r\nbody\r\n",
	} {
		if got := string(align([]byte(in))); got != want {
			t.Errorf("align(%q) = %q, want %q", in, got, want)
		}
	}
}

// stuffed is the text as it goes over the wire, with the line that ends it but for its CRLF.
func stuffed(text []byte) []byte {
	text = bytes.ReplaceAll(append([]byte("\r\n"), text...), []byte("\r\n."), []byte("\r\n.."))
	return append(text[2:], '.')
}

// spill writes text to a file of its own.
func spill(t testing.TB, dir, name string, text []byte) string {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.WriteFile(p, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}
