package web

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/transfer"
)

// maxChange is the largest body of a PUT, in bytes.
const maxChange = 4 << 10

func bad(field, detail string, allowed ...string) error {
	return problem{Status: http.StatusBadRequest, Field: field, Detail: detail, Allowed: allowed}
}

// readBody reads a body of JSON of at most limit bytes.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, problem{Status: http.StatusUnsupportedMediaType, Field: "Content-Type",
			Detail: "the body must be JSON, and the request say so", Allowed: []string{"application/json"}}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("the body has over %d bytes", limit)}
	} else if err != nil {
		return nil, bad("", "the body could not be read to its end")
	}
	return body, nil
}

// readChange reads the body of a PUT: one JSON object whose members are mail, open, click and
// notice, each a string and at most once. What is wrong comes back as a problem that names the
// member.
func readChange(w http.ResponseWriter, r *http.Request) (consent.Change, error) {
	var none consent.Change
	body, err := readBody(w, r, maxChange)
	if err != nil {
		return none, err
	}
	members, err := readObject(body, `{"open":"granted","notice":"2026-03"}`)
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

// readObject reads a JSON object of strings, each at most once, and nothing behind it. What is
// wrong is a problem, with an example where it is no object.
func readObject(body []byte, example string) (map[string]string, error) {
	members, err := transfer.ReadObject(body)
	var wrong *transfer.MemberError
	switch {
	case errors.As(err, &wrong):
		return nil, bad(wrong.Member, wrong.Wrong)
	case err != nil:
		return nil, bad("", "the body is not a JSON object, such as "+example)
	}
	return members, nil
}
