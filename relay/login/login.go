// Package login decides who a sender is, by name and password.
//
// A wrong name costs the same time as a wrong password. Failures slow the peer and the name down;
// who logged in before from the same place is not slowed down by others who guess, and does not
// cost an expensive hash each time. All that is remembered is bounded, whoever knocks.
//
// What a login may claim is kept here and enforced by package relay.
package login

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/net/idna"

	"github.com/consentgate/consentgate/consent"
)

var (
	// ErrWrong says that there is no such login with that password.
	ErrWrong = errors.New("wrong name or password")
	// ErrBusy says that the password was not looked at: there were too many failures just now,
	// or there are too many logins at once. Trying again later helps.
	ErrBusy = errors.New("too many failed logins, or too many at once")
)

// Login is one sender.
type Login struct {
	Name string
	Hash string // argon2id or bcrypt; see Hash

	Scopes      []consent.Scope // what it may claim, the first is its default; none = any
	Classes     []consent.Class // none = any
	FromDomains []string        // none = any
}

// Desk checks logins. It is safe for concurrent use.
type Desk struct {
	logins    []entry
	byName    map[string]*entry
	peers     *throttle
	names     *throttle
	computing chan struct{} // a place for each hash that may be computed at a time

	key  [32]byte // of the marks
	mu   sync.Mutex
	seen map[mark]struct{}
}

type entry struct {
	Login
	verify verifier
}

// mark stands for a name and a password with which a peer has logged in. Without the key, which
// never leaves the memory, nothing can be learnt from it.
type mark [sha256.Size]byte

const (
	maxSeen   = 4096
	patience  = 10 * time.Second // the longest that a login waits for its turn
	computers = 4                // hashes at a time, of 64 MiB each
)

// New checks the logins and brings their From domains into one form. Without logins Check
// refuses everybody.
func New(logins []Login) (*Desk, error) {
	d := &Desk{
		logins: make([]entry, len(logins)), byName: map[string]*entry{},
		peers: newThrottle(), names: newThrottle(),
		computing: make(chan struct{}, min(computers, runtime.GOMAXPROCS(0))),
		seen:      map[mark]struct{}{},
	}
	rand.Read(d.key[:]) // never fails
	for i, l := range logins {
		verify, err := parseHash(l.Hash)
		if err != nil {
			return nil, fmt.Errorf("login %q: %w", l.Name, err)
		}
		if l.Name == "" || d.byName[l.Name] != nil {
			return nil, fmt.Errorf("login %q: the name is empty, or there twice", l.Name)
		}
		domains := make([]string, len(l.FromDomains))
		for j, domain := range l.FromDomains {
			if domains[j], err = idna.Lookup.ToASCII(domain); err != nil {
				return nil, fmt.Errorf("login %q: From domain %q: %w", l.Name, domain, err)
			}
		}
		l.FromDomains = domains
		d.logins[i] = entry{l, verify}
		d.byName[l.Name] = &d.logins[i]
	}
	return d, nil
}

// Offered reports whether there is any login.
func (d *Desk) Offered() bool { return len(d.logins) > 0 }

// Known returns name if there is a login of that name, else "".
func (d *Desk) Known(name string) string {
	if d.byName[name] == nil {
		return ""
	}
	return name
}

// Check returns the login of that name if the password is right, else ErrWrong or ErrBusy. It may
// take many seconds; peer is who is slowed down, an IPv6 peer together with its /64.
func (d *Desk) Check(ctx context.Context, peer netip.Addr, name, password string) (*Login, error) {
	if !d.Offered() {
		return nil, ErrWrong
	}
	place := placeOf(peer)
	found := d.byName[name]
	m := d.mark(place, name, password)
	if found != nil && d.hasSeen(m) {
		return &found.Login, nil
	}

	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	now := time.Now()
	wait, ok := d.peers.reserve(place, now)
	if !ok {
		return nil, ErrBusy
	}
	// Others who guess at a name hold up only those peers who have failed themselves.
	var also time.Duration
	if !d.peers.clean(place, now) {
		if also, ok = d.names.reserve(name, now); !ok {
			return nil, ErrBusy
		}
	}
	if err := sleep(ctx, max(wait, also)); err != nil {
		return nil, ErrBusy
	}
	// A name that nobody has is checked against somebody's password, for the same time. It is
	// always the same one's, since there are hashes of different cost.
	against := found
	if found == nil {
		against = &d.logins[d.names.bucket(name)%len(d.logins)]
	}
	select {
	case d.computing <- struct{}{}:
	case <-ctx.Done():
		return nil, ErrBusy
	}
	right := against.verify(password)
	<-d.computing
	if !right || found == nil {
		now = time.Now()
		d.peers.failed(place, now)
		d.names.failed(name, now)
		return nil, ErrWrong
	}
	d.remember(m)
	return &found.Login, nil
}

// Still returns the login that l was once, as it is now; nil where it is there no more, or has another
// password.
func (d *Desk) Still(l *Login) *Login {
	if e := d.byName[l.Name]; e != nil && e.Hash == l.Hash {
		return &e.Login
	}
	return nil
}

// placeOf is what peers have in common that are slowed down together.
func placeOf(peer netip.Addr) string {
	if peer.Is6() {
		if p, err := peer.Prefix(64); err == nil {
			return p.String()
		}
	}
	return peer.String() // "invalid IP" is one place too
}

func (d *Desk) mark(place, name, password string) (m mark) {
	h := hmac.New(sha256.New, d.key[:])
	for _, s := range []string{place, name, password} {
		binary.Write(h, binary.BigEndian, uint64(len(s))) // a hash never fails
		h.Write([]byte(s))
	}
	h.Sum(m[:0])
	return m
}

func (d *Desk) hasSeen(m mark) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.seen[m]
	return ok
}

func (d *Desk) remember(m mark) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.seen) >= maxSeen {
		for other := range d.seen { // any: it costs one hash more
			delete(d.seen, other)
			break
		}
	}
	d.seen[m] = struct{}{}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// MayClaim reports whether l may send in scope.
func (l *Login) MayClaim(scope consent.Scope) bool { return fits(l.Scopes, scope) }

// MaySend reports whether l may send mail of class.
func (l *Login) MaySend(class consent.Class) bool { return fits(l.Classes, class) }

// MayBeFrom reports whether l may use domain, in ASCII and lower case, in a From field.
func (l *Login) MayBeFrom(domain string) bool { return fits(l.FromDomains, domain) }

func fits[T comparable](list []T, v T) bool {
	for _, one := range list {
		if one == v {
			return true
		}
	}
	return len(list) == 0
}
