package web

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/consentgate/consentgate/consent"
)

// Notice is the operator's own text of what a person agrees to.
//
// Its file is plain UTF-8. The first line is the version, which is recorded with every consent. The
// text follows, its paragraphs parted by empty lines. A line "[de]" begins the text for that
// language of the page; what stands before the first such line is for all others:
//
//	2026-03
//	We count which of our mails you open and which links you follow …
//
//	[de]
//	Wir zählen, welche unserer Mails Sie öffnen und welchen Links Sie folgen …
type Notice struct {
	version string
	texts   map[string][]string // paragraphs by language; "" = all others
}

const (
	maxNoticeVersion = 40   // bytes: what is recorded has a little more, and consent.MaxNotice at most
	maxNoticeText    = 1500 // bytes a language, so that the page stays small
)

var noticeLanguage = regexp.MustCompile(`^\[([a-z]{2,3})\]$`)

// ReadNotice reads a file of that form.
func ReadNotice(file string) (*Notice, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	n, err := parseNotice(strings.TrimPrefix(string(text), "\ufeff"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return n, nil
}

func parseNotice(text string) (*Notice, error) {
	if strings.ToValidUTF8(text, "") != text {
		return nil, errors.New("it is not UTF-8")
	}
	first, rest, _ := strings.Cut(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	n := &Notice{version: strings.TrimSpace(first), texts: map[string][]string{}}
	if n.version == "" || len(n.version) > maxNoticeVersion || consent.CheckNotice(n.version) != nil {
		return nil, fmt.Errorf("its first line is not a version: 1 to %d characters of ASCII, such as 2026-03", maxNoticeVersion)
	}
	lang := ""
	written := map[string]*strings.Builder{"": {}}
	for line := range strings.SplitSeq(rest, "\n") {
		line = strings.TrimSpace(line)
		m := noticeLanguage.FindStringSubmatch(line)
		if m == nil {
			written[lang].WriteString(line + "\n")
			continue
		}
		if lang = m[1]; written[lang] != nil {
			return nil, fmt.Errorf("there are two texts for [%s]", lang)
		}
		if !hasLanguage(lang) {
			return nil, fmt.Errorf("the page has no language [%s]", lang)
		}
		written[lang] = &strings.Builder{}
	}
	for lang, b := range written {
		if b.Len() > maxNoticeText {
			return nil, fmt.Errorf("the text [%s] has over %d bytes", lang, maxNoticeText)
		}
		for paragraph := range strings.SplitSeq(b.String(), "\n\n") {
			if p := strings.Join(strings.Fields(paragraph), " "); p != "" {
				n.texts[lang] = append(n.texts[lang], p)
			}
		}
		if lang != "" && n.texts[lang] == nil {
			return nil, fmt.Errorf("the text [%s] is empty", lang)
		}
	}
	if n.texts[""] == nil { // every language needs one
		for _, t := range texts {
			if n.texts[t.Lang] == nil {
				return nil, fmt.Errorf("there is no text for [%s], and none for all others before the first of such lines", t.Lang)
			}
		}
	}
	return n, nil
}

func hasLanguage(lang string) bool {
	for _, t := range texts {
		if t.Lang == lang {
			return true
		}
	}
	return false
}

// shown is the text that a page in t shows, and the name under which a consent to it is recorded: the
// version and the language of the page. A nil Notice is the built-in text.
func (n *Notice) shown(t *text) (paragraphs []string, version, recorded string) {
	if n == nil {
		return []string{t.Agree}, t.Notice, t.Notice
	}
	paragraphs = n.texts[t.Lang]
	if paragraphs == nil {
		paragraphs = n.texts[""]
	}
	return paragraphs, n.version, n.version + "/" + t.Lang
}
