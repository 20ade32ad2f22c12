package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"

	"github.com/consentgate/consentgate/consent"
)

// maxChange is the largest body of a PUT, in bytes.
const maxChange = 4 << 10

func bad(field, detail string, allowed ...string) error {
	return problem{Status: http.StatusBadRequest, Field: field, Detail: detail, Allowed: allowed}
}

// readChange reads the body of a PUT: one JSON object whose members are mail, open, click and
// notice, each a string and at most once. What is wrong comes back as a problem that names the
// member.
func readChange(w http.ResponseWriter, r *http.Request) (consent.Change, error) {
	var none consent.Change
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return none, problem{Status: http.StatusUnsupportedMediaType, Field: "Content-Type",
			Detail: "the body must be JSON, and the request say so", Allowed: []string{"application/json"}}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxChange))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return none, problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("the body has over %d bytes", maxChange)}
	} else if err != nil {
		return none, bad("", "the body could not be read to its end")
	}
	members, err := readObject(body)
	if err != nil {
		return none, err
	}
	var c consent.Change
	for _, name := range slices.Sorted(maps.Keys(members)) { // the same mistake gets the same answer
		value := members[name]
		switch name {
		case "mail":
			c.Mail, err = consent.ParseState(consent.Mail, value)
			if err != nil {
				return none, bad(name, err.Error(), string(consent.Subscribed), string(consent.Unsubscribed))
			}
		case "open", "click":
			s, err := consent.ParseState(consent.Purpose(name), value)
			if err != nil {
				return none, bad(name, err.Error(), string(consent.Granted), string(consent.Denied), string(consent.Unset))
			}
			if name == "open" {
				c.Open = s
			} else {
				c.Click = s
			}
		case "notice":
			if err := consent.CheckNotice(value); err != nil {
				return none, bad(name, err.Error())
			}
			c.Notice = value
		default:
			return none, bad(name, fmt.Sprintf("there is no member %.64q", name), "mail", "open", "click", "notice")
		}
	}
	if c.Mail == "" && c.Open == "" && c.Click == "" {
		return none, bad("", "the body names nothing to change", "mail", "open", "click")
	}
	return c, nil
}

// readObject reads a JSON object of strings and nothing behind it. Unlike json.Unmarshal it
// refuses a name that comes twice.
func readObject(body []byte) (map[string]string, error) {
	if !json.Valid(body) {
		return nil, bad("", `the body is not JSON, such as {"open":"granted","notice":"2026-03"}`)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, bad("", `the body is not a JSON object, such as {"open":"granted","notice":"2026-03"}`)
	}
	members := map[string]string{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, bad("", "the body is not JSON")
		}
		name := t.(string) // valid JSON has nothing else here
		if _, twice := members[name]; twice {
			return nil, bad(name, "the member comes twice")
		}
		var value any
		if err := dec.Decode(&value); err != nil {
			return nil, bad(name, "the body is not JSON")
		}
		s, ok := value.(string)
		if !ok {
			return nil, bad(name, "the member must be a string")
		}
		members[name] = s
	}
	return members, nil
}
