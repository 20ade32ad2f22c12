package rewrite

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	gomessage "github.com/emersion/go-message"

	"github.com/consentgate/consentgate/rewrite/trackers"
)

// leaf is a part without parts of its own: its type, and the SHA-1 of its decoded content, without
// line ends at its end; "" for messages, into which others look and we do not.
type leaf [2]string

func newLeaf(kind string, content []byte) leaf {
	if strings.HasPrefix(kind, "message/") {
		return leaf{kind, ""}
	}
	content = bytes.TrimRight(bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n")), "\n")
	sum := sha1.Sum(content)
	return leaf{kind, hex.EncodeToString(sum[:])}
}

// ourLeaves are those that Parse finds.
func ourLeaves(t *testing.T, src []byte) (all []leaf) {
	m, err := Parse(Bytes(src), int64(len(src)), trackers.Default(), testOptions())
	if err != nil {
		return []leaf{{"error", ""}}
	}
	var walk func(p *part)
	walk = func(p *part) {
		if len(p.children) > 0 {
			for _, c := range p.children {
				walk(c)
			}
			return
		}
		body, err := m.readPart(p)
		if err != nil {
			t.Fatal(err)
		}
		switch parseTransfer(p.encoding) {
		case quotedPrintable:
			body, _ = decodeQP(body, nil, nil)
		case base64Transfer:
			body = decodeBase64(body)
		}
		all = append(all, newLeaf(p.typ.value, body))
	}
	walk(m.root)
	return all
}

// goMessageLeaves are those that go-message finds. It decodes no character set here, since none is registered.
func goMessageLeaves(src []byte) (all []leaf) {
	var walk func(e *gomessage.Entity) error
	walk = func(e *gomessage.Entity) error {
		kind, _, err := e.Header.ContentType()
		if err != nil || kind == "" {
			kind = "text/plain"
		}
		if r := e.MultipartReader(); r != nil {
			for {
				p, err := r.NextPart()
				if err == io.EOF {
					return nil
				}
				if err != nil && !gomessage.IsUnknownCharset(err) && !gomessage.IsUnknownEncoding(err) {
					return err
				}
				if err := walk(p); err != nil {
					return err
				}
			}
		}
		body, err := io.ReadAll(e.Body)
		if err != nil {
			return err
		}
		all = append(all, newLeaf(strings.ToLower(kind), body))
		return nil
	}
	e, err := gomessage.Read(bytes.NewReader(src))
	if err == nil || gomessage.IsUnknownCharset(err) || gomessage.IsUnknownEncoding(err) {
		err = walk(e)
	}
	if err != nil {
		return []leaf{{"error", ""}}
	}
	return all
}

// pythonLeaves are those that Python's email package finds, of many files at once.
func pythonLeaves(t *testing.T, files []string) [][]leaf {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3, so nothing is compared with its email package")
	}
	cmd := exec.Command(python, "testdata/leaves.py")
	cmd.Stdin = strings.NewReader(strings.Join(files, "\x00"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all [][]leaf
	for line := range strings.Lines(string(out)) {
		var l []leaf
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	if len(all) != len(files) {
		t.Fatalf("%d answers for %d files", len(all), len(files))
	}
	return all
}

// TestOtherReaders holds the parts that we find in copies of real mail, all that a reader decodes of
// them included, against those that Python's email package and go-message find. What differs stands with its
// reason in testdata/differences.txt: one that does not, and one that is no more, is a failure.
//
// It is the copies that are compared, since they are what is read: a header that readers may take for
// different ones leaves as one that they cannot. White space at the ends of lines of quoted-printable is
// left out: Python keeps what RFC 2045 §6.7 (3) says must go. What go-message does not read at all is only
// counted: it is strict about the header, and about encodings.
func TestOtherReaders(t *testing.T) {
	files := corpus(t)
	known := knownDifferences(t)
	dir := t.TempDir()
	copies, texts := make([]string, len(files)), make([][]byte, len(files))
	for i, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = render(t, parse(t, crlf(src)), plainVariant)
		copies[i] = filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(copies[i], texts[i], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	there := map[string]bool{}
	differs := func(reader, name string, ours, theirs []leaf) {
		there[reader+" "+name] = true
		reason, ok := known[reader+" "+name]
		if same := slices.Equal(ours, theirs); same && ok {
			t.Errorf("%s reads %s as we do; the table says that it does not (%s)", reader, name, reason)
		} else if !same && !ok {
			t.Errorf("%s: we read\n\t%v, %s\n\t%v", name, ours, reader, theirs)
		}
	}
	refused := 0
	byPython := pythonLeaves(t, copies)
	for i, file := range files {
		name := filepath.Base(filepath.Dir(file)) + "/" + filepath.Base(file)
		ours := ourLeaves(t, texts[i])
		differs("python", name, ours, byPython[i])
		if others := goMessageLeaves(texts[i]); len(others) == 1 && others[0][0] == "error" {
			refused++
		} else {
			differs("go-message", name, ours, others)
		}
	}
	for key, reason := range known {
		if _, name, _ := strings.Cut(key, " "); there["python "+name] && !there[key] {
			t.Errorf("%s reads nothing there; the table says that it differs (%s)", key, reason)
		}
	}
	t.Logf("%d mails, %d of which go-message does not read", len(files), refused)
}

// knownDifferences reads the table: a reason, and indented below it the readers and files.
func knownDifferences(t *testing.T) map[string]string {
	text, err := os.ReadFile("testdata/differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]string{}
	reason := ""
	for line := range strings.Lines(string(text)) {
		switch key, indented := strings.CutPrefix(line, "\t"); {
		case indented:
			known[strings.TrimSpace(key)] = reason
		case strings.TrimSpace(line) != "" && line[0] != '#':
			reason = strings.TrimSpace(line)
		}
	}
	return known
}

// TestCharsetsOfPython: what Python writes in a character set is read as it was meant. Left out are
// iso-8859-1, us-ascii and the like, which readers take for the windows set that holds them.
func TestCharsetsOfPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3, so no character set is compared with its codecs")
	}
	texts := map[string]string{
		"Grüße, naïve façade, Ærø": "utf-8 utf-16 utf-16le utf-16be utf-32 utf-32be utf-7 windows-1252 iso-8859-15 macintosh gb18030 ibm037",
		"Zażółć gęślą jaźń":        "iso-8859-2 windows-1250 iso-8859-13 utf-8 utf-7 iso-8859-16",
		"Съешь ещё этих булок":     "koi8-r koi8-u windows-1251 iso-8859-5 ibm866 gb2312 gbk euc-jp shift_jis euc-kr big5-hkscs iso-2022-jp",
		"Ξεσκεπάζω την":            "iso-8859-7 windows-1253",
		"İstanbul'da çiğ köfte":    "iso-8859-9 windows-1254",
		"שלום עולם":                "iso-8859-8 windows-1255",
		"مرحبا بالعالم":            "iso-8859-6 windows-1256",
		"สวัสดี":                   "tis-620 windows-874 iso-8859-11",
		"日本語の文字、カタカナ":              "iso-2022-jp shift_jis euc-jp utf-8 utf-16 utf-7",
		"中文简体，测试":                  "gb2312 gbk gb18030 hz-gb-2312 utf-8",
		"中文繁體，測試":                  "big5 gb18030",
		"한국어 문자":                   "euc-kr ks_c_5601-1987",
	}
	script := "import sys,json\nprint(json.dumps([t.encode({'windows-874':'cp874','iso-8859-11':'iso8859_11','macintosh':'mac_roman'}.get(n, n)).hex() for t,n in json.load(sys.stdin)]))"
	var ask [][2]string
	for text, names := range texts {
		for name := range strings.FieldsSeq(names) {
			ask = append(ask, [2]string{text, name})
		}
	}
	in, err := json.Marshal(ask)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", script)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var written []string
	if err := json.Unmarshal(out, &written); err != nil || len(written) != len(ask) {
		t.Fatalf("%d answers for %d questions, %v", len(written), len(ask), err)
	}
	for i, q := range ask {
		b, err := hex.DecodeString(written[i])
		if err != nil {
			t.Fatal(err)
		}
		c, _ := findCharset(q[1]).sniff(b, false)
		if got := strings.TrimPrefix(string(c.decode(b)), "\uFEFF"); got != q[0] {
			t.Errorf("%s: %q is read as %q", q[1], q[0], got)
		}
	}
}
