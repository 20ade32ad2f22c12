package relay

import (
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/relay/metrics"
)

// Error is an answer to the peer that is not "yes", with its cause for the log. Text is what a
// stranger is told: it never holds configuration or internals.
type Error struct {
	Code     int    // 4yz or 5yz, RFC 5321 §4.2
	Enhanced [3]int // RFC 3463; all zero = X.0.0
	Text     string // the lines of an answer of several are parted by "\n"
	Cause    error
	why      metrics.Refusal // "" = as the codes say
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%d %d.%d.%d %s", e.Code, e.Enhanced[0], e.Enhanced[1], e.Enhanced[2], e.Text)
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Cause }

// refuse is an Error whose enhanced code is given as in RFC 3463, "5.7.1".
func refuse(code int, enhanced, text string, cause error) *Error {
	e := &Error{Code: code, Text: text, Cause: cause}
	if _, err := fmt.Sscanf(enhanced, "%d.%d.%d", &e.Enhanced[0], &e.Enhanced[1], &e.Enhanced[2]); err != nil {
		panic("relay: enhanced code " + enhanced)
	}
	return e
}

// because says why, where the codes do not.
func (e *Error) because(why metrics.Refusal) *Error {
	e.why = why
	return e
}

// internal is the answer to a failure of our own, about which the peer learns nothing.
func internal(cause error) *Error {
	return refuse(451, "4.3.0", "internal error, try again later", cause)
}

// answer turns any error into go-smtp's. It is the one place where that is done: go-smtp looks
// at its own type only, without unwrapping, and makes a permanent "554 … internals" of any
// other.
func answer(err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		e = internal(err)
	}
	code := e.Code
	switch {
	case code == 421 && !errors.Is(err, errLeaving):
		// 421 says that this connection ends (RFC 5321 §3.8). Handed on from the next hop, it
		// does not.
		code = 451
	case code < 400 || code > 599:
		code = 451
	}
	// go-smtp puts the enhanced code on the last line only; RFC 2034 §4 wants it on each.
	lines := strings.Split(publicText(e.Text), "\n")
	enhanced := e.Enhanced
	if enhanced == ([3]int{}) {
		enhanced[0] = code / 100
	}
	for i := range lines[:len(lines)-1] {
		lines[i] = fmt.Sprintf("%d.%d.%d %s", enhanced[0], enhanced[1], enhanced[2], lines[i])
	}
	return &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: strings.Join(lines, "\n") + own}
}

// own stands at the end of an answer that is not go-smtp's, until conn takes it off: who made it has counted it where
// it is to be counted. No other text ends with it, see publicText.
const own = "\x01"

// errLeaving is the cause of an answer after which this connection really ends.
var errLeaving = errors.New("connection ends")

// accepted is the positive answer with an ID: go-smtp takes an "error" of code 250 for it.
func accepted(id string) error {
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: id}
}

// retold holds the lines of go-smtp's own that are wrong here, with what is said instead.
func retold(maxMessageBytes int64) map[string]string {
	size := fmt.Sprintf("SIZE %d\r\n", maxMessageBytes)
	return map[string]string{
		// It has no limit, since by DATA it would take one byte less than that: receive has.
		"250-SIZE\r\n": "250-" + size,
		"250 SIZE\r\n": "250 " + size,
		// It takes any number over 32 bits for nonsense.
		"501 5.5.4 Unable to parse SIZE as an integer\r\n": "552 5.3.4 the message is too large, or its SIZE is no number\r\n",
		// RFC 4954 §4 and §6.
		"454 4.7.0 Invalid base64 data\r\n":      "501 5.5.2 this is not base64\r\n",
		"235 2.0.0 Authentication succeeded\r\n": "235 2.7.0 welcome\r\n",
	}
}

// publicText makes s fit for a reply line: RFC 5321 §4.2 allows printable text, §4.5.3.1.5 512
// bytes a line, and twenty lines are enough for anybody. UTF-8 is let through, since a smarthost
// that says it was asked for SMTPUTF8.
func publicText(s string) string {
	lines := strings.Split(strings.ToValidUTF8(s, "?"), "\n")
	if len(lines) > 20 {
		lines = lines[:20]
	}
	for i, line := range lines {
		line = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return ' '
			}
			return r
		}, line)
		if len(line) > 480 {
			line = strings.ToValidUTF8(line[:480], "")
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n")
}
