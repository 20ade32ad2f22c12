package transfer

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// ErrObject is the error of ReadObject where the text is no JSON object at all.
var ErrObject = errors.New("not a JSON object")

// MemberError says which member of a JSON object is wrong.
type MemberError struct{ Member, Wrong string }

func (e *MemberError) Error() string { return e.Member + ": " + e.Wrong }

// ReadObject reads a JSON object whose members are all strings, and nothing behind it. Unlike
// json.Unmarshal it refuses a name that comes twice, and bytes that are not UTF-8. Its errors are
// ErrObject or a *MemberError.
func ReadObject(text []byte) (map[string]string, error) {
	if !utf8.Valid(text) || !json.Valid(text) {
		return nil, ErrObject
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, ErrObject
	}
	members := map[string]string{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, ErrObject
		}
		name := t.(string) // valid JSON has nothing else here
		if _, twice := members[name]; twice {
			return nil, &MemberError{name, "the member comes twice"}
		}
		var value any
		if err := dec.Decode(&value); err != nil {
			return nil, ErrObject
		}
		s, ok := value.(string)
		if !ok {
			return nil, &MemberError{name, "the member must be a string"}
		}
		members[name] = s
	}
	return members, nil
}
