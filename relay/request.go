package relay

import (
	"context"
	"errors"
	"hash/maphash"
	"io"
	"mime"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/relay/metrics"
	"github.com/consentgate/consentgate/relay/outbox"
	"github.com/consentgate/consentgate/rewrite"
)

// Mail to Config.MailTo is a request to unsubscribe: it is taken from anybody, never relayed, and nothing is ever
// sent in answer. The token in its Subject decides, and nothing else of it, since everything else can be forged
// and is not ours: mailbox providers make such mail by themselves, with a null sender or Auto-Submitted. What
// holds no token that opens is refused, so that who wrote it is not left to believe that it did something.

const (
	maxRequest       = 1 << 20  // bytes of such mail; signatures hold pictures
	maxRequestHeader = 64 << 10 // of it that are kept, and looked at
	requestTime      = 10 * time.Second
)

// mayReach says whether the next recipient may be who. Requests go alone, so that each of the two ways of a
// message has its own answer.
func (s *session) mayReach(env *envelope, who consent.Address) error {
	request := !s.server.mailTo.IsZero() && who == s.server.mailTo
	switch {
	case env.stranger && !request:
		return unauthenticated()
	case len(env.rcpts) > 0 && request != env.request: // RFC 5321 §4.5.3.1.10: tried again by itself
		return refuse(452, "4.5.3", "mail to the unsubscribe address has no other recipients; send it by itself", nil)
	}
	env.request = request
	return nil
}

// unsubscribe carries out the request that comes from r.
func (s *session) unsubscribe(r io.Reader, id string, env *envelope) ([]*outcome, error) {
	became := metrics.MailtoBad
	defer func() { s.server.cfg.Metrics.Mailto(became) }()
	subjects, err := readRequest(r)
	if err != nil {
		s.during(env, func() { s.conn.limitRest(maxRequest, errors.Is(err, smtp.ErrTooLongLine)) })
		return nil, s.reject(id, env, err)
	}
	calm := s.server.attempts.allow(s.conn.peer, s.server.cfg.Now())
	claims, found := s.server.claimsIn(subjects, calm)
	if !found && !calm {
		return nil, s.reject(id, env, refuse(450, "4.7.1", "too many requests that were none, try again later", nil).because(metrics.RefusedTooMany))
	}
	if !found {
		s.server.attempts.failed(s.conn.peer, s.server.cfg.Now())
		return nil, s.reject(id, env, refuse(550, "5.7.1", "nobody was unsubscribed: the subject holds no valid code; please use the link in the mail", nil))
	}
	ctx, cancel := context.WithTimeout(consent.WithRequest(s.server.sending, id), requestTime)
	defer cancel()
	results, err := s.server.store.Apply(ctx, []consent.Change{{
		Who: claims.Who, Scope: claims.Scope, Mail: consent.Unsubscribed, Source: consent.FromMailto, Time: s.server.cfg.Now(),
	}})
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		became = metrics.MailtoDown
		return nil, s.reject(id, env, refuse(451, "4.3.0", "this cannot be done now, try again later", err).because(metrics.RefusedStore))
	}
	became = metrics.MailtoDone
	if s.server.cfg.Unsubscribed != nil {
		s.server.cfg.Unsubscribed(id, claims, consent.FromMailto)
	}
	s.server.log.requested(id, s.conn, env.from, claims)
	outcomes := make([]*outcome, len(env.rcpts))
	for i := range outcomes {
		outcomes[i] = &outcome{}
	}
	return outcomes, nil
}

// readRequest reads a message to its end, strictly, and returns its Subject fields. It keeps no more of it than
// the header. The error is an *Error.
func readRequest(r io.Reader) ([]string, error) {
	var lines strictLines
	var head []byte
	buf := make([]byte, 16<<10)
	for size := 0; ; {
		n, err := r.Read(buf)
		if lines.check(buf[:n]) != nil {
			return nil, lineEnds()
		}
		if size += n; size > maxRequest {
			return nil, tooLarge()
		}
		head = append(head, buf[:min(n, maxRequestHeader-len(head))]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, readError(err)
		}
	}
	if _, err := lines.end(); err != nil {
		return nil, lineEnds()
	}
	if end := strings.Index(string(head), "\r\n\r\n"); end >= 0 {
		head = head[:end+4]
	}
	h, err := rewrite.ParseHeader(rewrite.Bytes(head), int64(len(head)))
	if err != nil {
		return nil, rewriteError(err)
	}
	return h.Fields("Subject"), nil
}

// Bounds of the search for a token in one Subject.
const (
	minToken  = 48 // characters: that of the shortest address in the shortest scope
	maxPieces = 40
	maxJoined = 2000 // of all Subjects together: beyond, only what stands in one piece is looked at
)

// claimsIn finds the token: as it is, behind "Re:", among other words, in encoded words (RFC 2047), or in pieces,
// where a mail program broke the line within it. The first that opens counts. Pieces are put together only with
// join, since there are many ways to.
func (s *Server) claimsIn(subjects []string, join bool) (token.Claims, bool) {
	joined := 0
	decoder := mime.WordDecoder{CharsetReader: func(_ string, input io.Reader) (io.Reader, error) { return input, nil }} // a token is ASCII in any
	for _, subject := range subjects {
		text, err := decoder.DecodeHeader(subject)
		if err != nil {
			text = subject
		}
		pieces := strings.FieldsFunc(text, func(r rune) bool {
			return !(r == '-' || r == '_' || r < 0x80 && isAlnum(byte(r)))
		})
		pieces = pieces[:min(len(pieces), maxPieces)]
		for i := range pieces {
			end := len(pieces)
			if !join || joined > maxJoined {
				end = i + 1
			}
			joined += end - i
			for j := i + 1; j <= end; j++ {
				if t := strings.Join(pieces[i:j], ""); len(t) >= minToken {
					if claims, err := s.links.Open(t); err == nil {
						return claims, true
					}
				}
			}
		}
	}
	return token.Claims{}, false
}

// ownOneClick returns the address of the sender's own pair of RFC 8058 §3.1, "" where there is none that could be
// called, or none is to be.
func (s *Server) ownOneClick(h *rewrite.Header) string {
	lists, posts := h.Fields("List-Unsubscribe"), h.Fields("List-Unsubscribe-Post")
	if !s.cfg.Chain || len(lists) != 1 || len(posts) != 1 || !strings.EqualFold(strings.TrimSpace(posts[0]), "List-Unsubscribe=One-Click") {
		return ""
	}
	address, err := firstHTTPS(lists[0])
	if err != nil {
		return ""
	}
	if t, ours := strings.CutPrefix(address, s.cfg.BaseURL+"/u/"); ours { // the message passes a second time
		claims, err := s.links.Open(t)
		if err != nil {
			return ""
		}
		return claims.OneClick
	}
	return address
}

// firstHTTPS returns the first https address of a List-Unsubscribe field, RFC 2369 §2.
func firstHTTPS(field string) (string, error) {
	for {
		_, rest, found := strings.Cut(field, "<")
		address, after, closed := strings.Cut(rest, ">")
		if !found || !closed {
			return "", errors.New("it names no https address")
		}
		// Folding puts white space even within an address.
		address = strings.Join(strings.Fields(address), "")
		if _, err := outbox.ParseOneClick(address); err == nil {
			return address, nil
		}
		field = after
	}
}

// attempts counts the mail to the unsubscribe address that held no token, by who sent it. Where it was too much, less
// is done to find one; a token that stands there in one piece always counts, since strangers come by the same mail
// server as true requests do. It holds a fixed number of places, so that they cannot fill the memory. The zero value
// is ready.
type attempts struct {
	mu    sync.Mutex
	seed  maphash.Seed
	slots [1024]struct {
		failures int
		since    time.Time // when failures were last made less
	}
}

const (
	maxAttempts   = 30
	attemptPeriod = 2 * time.Second // after which one is forgotten
)

// slot: a.mu is held. It forgets what is long ago.
func (a *attempts) slot(peer netip.Addr, now time.Time) *int {
	if a.seed == (maphash.Seed{}) {
		a.seed = maphash.MakeSeed()
	}
	network := peer.String()
	if peer.Is6() {
		p, _ := peer.Prefix(64)
		network = p.String()
	}
	s := &a.slots[maphash.String(a.seed, network)%uint64(len(a.slots))]
	if n := int(now.Sub(s.since) / attemptPeriod); n > 0 {
		s.failures, s.since = max(s.failures-n, 0), now
	}
	return &s.failures
}

func (a *attempts) allow(peer netip.Addr, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return *a.slot(peer, now) < maxAttempts
}

func (a *attempts) failed(peer netip.Addr, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*a.slot(peer, now)++
}
