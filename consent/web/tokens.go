package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/consentgate/consentgate/consent"
)

// role is what a bearer token may do.
type role int

const (
	noRole role = iota
	reads       // all but the addresses of an export of everybody
	writes      // that, and all changes
)

var roles = map[string]role{"read": reads, "write": writes}

// Tokens are the bearer tokens (RFC 6750) of the API. They stand in a file, a line each:
//
//	ROLE SHA-256 COMMENT
//
// where ROLE is read or write, SHA-256 the hash of the token in hex, and COMMENT, which history
// shows as who changed something, at most 64 bytes of printable ASCII without an @. Empty lines and such as
// begin with # say nothing. A token is to be random, of 128 bits or more, since its hash is fast.
//
// The file is read again when it has changed. A line that cannot be read then gives nobody
// anything and is logged, while the others hold, so that a token taken out is out.
type Tokens struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	holders []holder
	seen    fileState
}

// holder is a line of the file.
type holder struct {
	role    role
	hash    [sha256.Size]byte
	comment string
}

// fileState tells one state of a file from another.
type fileState struct {
	modified time.Time
	size     int64
}

// LoadTokens reads the file. An error names it and the line.
func LoadTokens(path string, log *slog.Logger) (*Tokens, error) {
	t := &Tokens{path: path, log: log}
	seen, err := t.state()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	holders, err := t.parse(string(text))
	if err != nil {
		return nil, err
	}
	if len(holders) == 0 {
		return nil, fmt.Errorf("%s: it has no token: a line is ROLE SHA-256 COMMENT", path)
	}
	t.holders, t.seen = holders, seen
	return t, nil
}

func (t *Tokens) state() (fileState, error) {
	info, err := os.Stat(t.path)
	if err != nil {
		return fileState{}, err
	}
	if !info.Mode().IsRegular() {
		return fileState{}, &fs.PathError{Op: "open", Path: t.path, Err: errors.New("is no regular file")}
	}
	return fileState{info.ModTime(), info.Size()}, nil
}

// parse returns the lines that can be read, and what is wrong with the others.
func (t *Tokens) parse(text string) (holders []holder, err error) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		h, wrong := parseToken(line)
		if wrong != nil {
			err = errors.Join(err, fmt.Errorf("%s: line %d: %w", t.path, n, wrong))
			continue
		}
		holders = append(holders, h)
	}
	return holders, err
}

func parseToken(line string) (holder, error) {
	word, rest, _ := strings.Cut(line, " ")
	digest, comment, _ := strings.Cut(strings.TrimSpace(rest), " ")
	h := holder{role: roles[word], comment: strings.TrimSpace(comment)}
	if h.role == noRole {
		return h, errors.New("it does not begin with read or write")
	}
	if sum, err := hex.DecodeString(digest); err != nil || len(sum) != sha256.Size {
		return h, errors.New("what stands behind the role is no SHA-256 in hex, 64 digits") // not repeated: it may be the token
	} else {
		copy(h.hash[:], sum)
	}
	if err := consent.CheckNotice(h.comment); err != nil || strings.Contains(h.comment, "@") {
		return h, errors.New("a comment has at most 64 bytes of printable ASCII, and is no address")
	}
	return h, nil
}

// current returns the holders of now.
func (t *Tokens) current() ([]holder, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen, err := t.state()
	if err != nil {
		return nil, err
	}
	if seen == t.seen {
		return t.holders, nil
	}
	text, err := os.ReadFile(t.path)
	if err != nil {
		return nil, err
	}
	holders, err := t.parse(string(text))
	if err != nil {
		t.log.Error("admin.token_file: lines that cannot be read give nobody access", "err", err)
	}
	t.holders, t.seen = holders, seen
	t.log.Info("the tokens of the API were read again", "file", t.path, "tokens", len(holders))
	return holders, nil
}

// check says who asks, where that token may do what needs the role; else it is a problem, for
// which w has the header already.
func (t *Tokens) check(w http.ResponseWriter, r *http.Request, need role) (comment string, err error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="consentgate"`)
		return "", problem{Status: http.StatusUnauthorized, Field: "Authorization", Detail: "this needs a bearer token", Allowed: []string{"Bearer TOKEN"}}
	}
	holders, err := t.current()
	if err != nil {
		t.log.Error("admin.token_file cannot be read, so nobody is let in", "err", err)
		return "", problem{Status: http.StatusServiceUnavailable, Detail: "the tokens cannot be read; the log says why"}
	}
	sum := sha256.Sum256([]byte(token))
	var found holder
	for _, h := range holders {
		if subtle.ConstantTimeCompare(h.hash[:], sum[:]) == 1 && h.role > found.role {
			found = h
		}
	}
	switch {
	case found.role == noRole:
		w.Header().Set("WWW-Authenticate", `Bearer realm="consentgate", error="invalid_token"`)
		return "", problem{Status: http.StatusUnauthorized, Field: "Authorization", Detail: "nobody has this token"}
	case found.role < need:
		w.Header().Set("WWW-Authenticate", `Bearer realm="consentgate", error="insufficient_scope", scope="write"`)
		return "", problem{Status: http.StatusForbidden, Field: "Authorization", Detail: "this token only reads", Allowed: []string{"a token with the role write"}}
	}
	return found.comment, nil
}
