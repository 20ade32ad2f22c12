package rewrite

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"slices"
	"strings"
)

// Lock tells the provider behind the next hop not to add tracking of its own to a copy without consent: by
// that provider's own field for one message, whatever the sender asked for in it. The zero value tells
// nobody. A copy with both consents is left as the sender set it; so is what a copy has consent to, as
// far as the provider tells opens and clicks apart.
type Lock struct {
	Provider Provider
	// SESConfigurationSet is the Amazon SES configuration set without open and click tracking.
	SESConfigurationSet string
	// WithoutOpen and WithoutClick are fields to set, by name, on copies without that consent; a sender's
	// own of that name go. For providers that are not known, and beside one that is.
	WithoutOpen, WithoutClick map[string]string
}

// Provider is a mail service with a switch for its tracking in each message.
type Provider string

const (
	Mailjet   Provider = "mailjet"   // X-Mailjet-TrackOpen, X-Mailjet-TrackClick
	Mailgun   Provider = "mailgun"   // X-Mailgun-Track, -Track-Opens, -Track-Clicks
	SendGrid  Provider = "sendgrid"  // X-SMTPAPI, a JSON object
	Mandrill  Provider = "mandrill"  // X-MC-Track, a list of what is tracked
	Postmark  Provider = "postmark"  // X-PM-TrackOpens, X-PM-TrackLinks; of no effect where the server tracks all opens
	SES       Provider = "ses"       // X-SES-CONFIGURATION-SET: one switch for both
	SparkPost Provider = "sparkpost" // X-MSYS-API, a JSON object
)

// ErrRecipients is wrapped by Render's error where a field for the provider names recipients of its own,
// who would get this person's copy.
var ErrRecipients = errors.New("X-SMTPAPI names other recipients than the envelope")

// switches is the edit of the header that turns tracking off.
type switches struct {
	set [][2]string     // name and body of the fields that are put in
	cut map[string]bool // lower-case names of the sender's fields that go
}

func (s *switches) put(name, body string) {
	s.drop(name)
	s.set = append(s.set, [2]string{name, body})
}

func (s *switches) drop(name string) { s.cut[strings.ToLower(name)] = true }

// switchesFor says what tells the provider what a copy has no consent to.
func (m *Message) switchesFor(open, click bool) switches {
	s := switches{cut: map[string]bool{}}
	if open && click {
		return s
	}
	lock := &m.opts.Lock
	off := func(consent bool, name, body string) {
		if !consent {
			s.put(name, body)
		}
	}
	switch lock.Provider {
	case Mailjet:
		off(open, "X-Mailjet-TrackOpen", "0")
		off(click, "X-Mailjet-TrackClick", "0")
	case Mailgun:
		m.lockMailgun(&s, open, click)
	case SendGrid:
		m.lockJSON(&s, "X-SMTPAPI", func(object jsonObject) {
			if !open {
				object.set(json.RawMessage("0"), "filters", "opentrack", "settings", "enable")
			}
			if !click {
				object.set(json.RawMessage("0"), "filters", "clicktrack", "settings", "enable")
			}
		})
	case Mandrill:
		m.lockMandrill(&s, open, click)
	case Postmark:
		off(open, "X-PM-TrackOpens", "false")
		off(click, "X-PM-TrackLinks", "None")
	case SES:
		s.put("X-SES-CONFIGURATION-SET", lock.SESConfigurationSet)
	case SparkPost:
		m.lockJSON(&s, "X-MSYS-API", func(object jsonObject) {
			if !open {
				object.set(json.RawMessage("false"), "options", "open_tracking")
				if object.has("options", "initial_open") {
					object.set(json.RawMessage("false"), "options", "initial_open")
				}
			}
			if !click {
				object.set(json.RawMessage("false"), "options", "click_tracking")
			}
		})
	}
	without := map[string]string{}
	if !open {
		maps.Copy(without, lock.WithoutOpen)
	}
	if !click {
		maps.Copy(without, lock.WithoutClick)
	}
	for _, name := range slices.Sorted(maps.Keys(without)) {
		s.put(name, without[name])
	}
	return s
}

// lockMailgun knows that X-Mailgun-Track is about both: what it said of the one that has consent is said by
// that one's own field.
func (m *Message) lockMailgun(s *switches, open, click bool) {
	both := m.Fields("X-Mailgun-Track")
	s.drop("X-Mailgun-Track")
	if !open && !click {
		s.put("X-Mailgun-Track", "no")
	}
	for _, one := range []struct {
		consent bool
		name    string
	}{{open, "X-Mailgun-Track-Opens"}, {click, "X-Mailgun-Track-Clicks"}} {
		switch {
		case !one.consent:
			s.put(one.name, "no")
		case len(both) > 0 && len(m.Fields(one.name)) == 0 && isToken(both[0]):
			s.put(one.name, both[0])
		}
	}
}

// lockMandrill knows that X-MC-Track names what is tracked, and that nothing else is where it is there.
func (m *Message) lockMandrill(s *switches, open, click bool) {
	asked := m.Fields("X-MC-Track")
	if len(asked) == 0 {
		asked = []string{"opens, clicks"}
	}
	var left []string
	for _, word := range strings.FieldsFunc(strings.ToLower(strings.Join(asked, ",")), func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }) {
		switch word {
		case "opens":
			if open {
				left = append(left, word)
			}
		case "clicks", "clicks_all", "clicks_htmlonly", "clicks_textonly":
			if click {
				left = append(left, word)
			}
		}
	}
	if len(left) == 0 {
		left = []string{"none"}
	}
	s.put("X-MC-Track", strings.Join(left, ", "))
}

func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return s != "" && len(s) < 100
}

// lockJSON changes the object in the sender's field. Of several fields all keys are taken together, the
// first of two wins. What is no JSON goes: nobody could say what the provider would make of it.
func (m *Message) lockJSON(s *switches, name string, change func(jsonObject)) {
	object := jsonObject{}
	for _, body := range m.Fields(name) {
		for key, value := range parseJSON(body) {
			if _, has := object[key]; !has {
				object[key] = value
			}
		}
	}
	change(object)
	s.put(name, foldJSON(len(name)+len(": "), asciiJSON(object.text())))
}

// jsonObject is a JSON object whose values stay as they are written.
type jsonObject map[string]json.RawMessage

// parseJSON reads a field that some libraries encode as words (RFC 2047). What is no object is empty.
func parseJSON(body string) jsonObject {
	var object jsonObject
	if json.Unmarshal([]byte(body), &object) == nil {
		return object
	}
	object = nil
	if decoded, err := new(mime.WordDecoder).DecodeHeader(body); err != nil || json.Unmarshal([]byte(decoded), &object) != nil {
		return nil
	}
	return object
}

// set puts value at a path of keys. What is no object on the way there is replaced.
func (o jsonObject) set(value json.RawMessage, path ...string) {
	if len(path) > 1 {
		var inner jsonObject
		if json.Unmarshal(o[path[0]], &inner) != nil || inner == nil {
			inner = jsonObject{}
		}
		inner.set(value, path[1:]...)
		value = inner.text()
	}
	o[path[0]] = value
}

func (o jsonObject) has(path ...string) bool {
	value, ok := o[path[0]]
	if !ok || len(path) == 1 {
		return ok
	}
	var inner jsonObject
	return json.Unmarshal(value, &inner) == nil && inner.has(path[1:]...)
}

func (o jsonObject) text() []byte {
	text, err := json.Marshal(o)
	if err != nil {
		panic("rewrite: JSON that was parsed: " + err.Error())
	}
	return text
}

// asciiJSON writes what is not ASCII as escapes, so that the field is one that any mail server passes on.
func asciiJSON(text []byte) string {
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case r < 0x7f:
			b.WriteByte(byte(r))
		case r >= 0x10000:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// foldJSON folds a field's body from column col on: behind a comma or a colon where white space means
// nothing, and in a long string before a space of its own, which unfolding leaves.
func foldJSON(col int, text string) string {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		if quoted && c == ' ' && col > 900 {
			b.WriteString("\r\n")
			col = 0
		}
		b.WriteByte(c)
		col++
		switch {
		case quoted && c == '\\':
			i++ // never the end: the text is JSON
			b.WriteByte(text[i])
			col++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ',' || c == ':') && col > 60:
			b.WriteString("\r\n ")
			col = 1
		}
	}
	return b.String()
}

// soleRecipient returns the one address that the sender's field makes the provider send to, "" for none. The
// error is ErrRecipients where there are more.
func (m *Message) soleRecipient() (string, error) {
	if m.opts.Lock.Provider != SendGrid {
		return "", nil
	}
	var all []string
	for _, body := range m.Fields("X-SMTPAPI") {
		to, ok := parseJSON(body)["to"]
		if !ok || string(to) == "null" {
			continue
		}
		var one string
		var list []string
		switch {
		case json.Unmarshal(to, &one) == nil:
			all = append(all, one)
		case json.Unmarshal(to, &list) == nil:
			all = append(all, list...)
		default:
			return "", ErrRecipients
		}
	}
	switch len(all) {
	case 0:
		return "", nil
	case 1:
		_, after, named := strings.Cut(all[0], "<") // "Anna <anna@example.org>"
		if named {
			after, _, _ = strings.Cut(after, ">")
			return strings.TrimSpace(after), nil
		}
		return strings.TrimSpace(all[0]), nil
	}
	return "", ErrRecipients
}
