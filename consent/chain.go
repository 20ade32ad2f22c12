package consent

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A person's history is a chain. Over each event stands
//
//	HMAC-SHA-256(history key, mac of the event before (16 zero bytes for the first) | Key | body)
//
// whose first half is the mac that the event ends in. The second half is kept only of the last
// event, beside the records ("head", its number before it), and is replaced with each new one: who
// can write into the store but has no key can neither change, add, leave out or exchange an event
// nor cut the newest off, since for no older event the second half is to be had. What remains
// possible is to bring back the whole person as of an earlier time.
//
// The event behind a Checkpoint goes on from the mac of the last event that was deleted, which the
// Checkpoint holds; so a deletion changes no event that stays.

// ErrBroken is wrapped where a history does not hold and therefore nothing is made of it.
var ErrBroken = errors.New("the history of this person does not hold")

// link is the end of a history, onto which the next event is made.
type link struct {
	number uint64
	mac    mac
}

// end reads the end of a history from its head and its last two events. Where the head is not that
// of the last event, a number is left out, so that the next event does not hide what was done.
func (l *Ledger) end(h *Held) link {
	var to link
	head := h.Fields[HeadField]
	number, _, _ := strings.Cut(head, " ")
	if n, err := strconv.ParseUint(number, 10, 64); err == nil && n <= maxNumber {
		to.number = n
	}
	n := len(h.Events)
	if n == 0 {
		return to
	}
	var before link
	if n > 1 {
		previous, _ := parseLine(h.Events[n-2])
		before = previous.end()
	}
	last, err := parseLine(h.Events[n-1])
	own, proof := l.sum(h.Key, before.mac, last.body)
	to.number = max(to.number, last.Number)
	if err != nil || own != last.mac || head != headText(last.Number, proof) {
		to.number++
	}
	to.mac = last.end().mac
	return to
}

// headText is the head of a history whose last event has that number and second half.
func headText(number uint64, proof mac) string {
	return string(proof.appendText(append(strconv.AppendUint(nil, number, 10), ' ')))
}

// sum returns both halves for a body behind the event with the mac before.
func (l *Ledger) sum(who Key, before mac, body string) (own, proof mac) {
	h := hmac.New(sha256.New, l.history)
	h.Write(before[:])
	h.Write(who[:])
	h.Write([]byte(body))
	sum := h.Sum(nil)
	return mac(sum[:16]), mac(sum[16:])
}

// add makes next the next event behind to and returns its text, the new end and the new head.
// The number of next is given to it here, but for a Checkpoint, which has its own.
func (l *Ledger) add(who Key, to link, next line) (text string, after link, head string) {
	if next.Kind != Checkpoint {
		next.Number = to.number + 1
	}
	body := next.appendBody(make([]byte, 0, 128))
	own, proof := l.sum(who, to.mac, string(body))
	after = link{next.Number, own}
	if next.Kind == Checkpoint {
		after.mac = next.last
	}
	return string(own.appendText(append(body, '\t'))), after, headText(next.Number, proof)
}

// verify reads a whole history and says of each event whether it fits onto the one before, and
// whether the last is that of the head.
func (l *Ledger) verify(who Key, texts []string, head string) []line {
	var to link
	var proof mac
	lines := make([]line, 0, len(texts)+1)
	for _, text := range texts {
		e, err := parseLine(text)
		own, next := l.sum(who, to.mac, e.body)
		switch {
		case err != nil:
			e.Broken = "it cannot be read"
			e.Number = to.number + 1
		case e.Number <= to.number:
			e.Broken = fmt.Sprintf("it stands behind number %d: it was moved or doubled", to.number)
		case e.Number > to.number+1 && e.Kind != Checkpoint:
			e.Broken = fmt.Sprintf("before it %s", gone(to.number+1, e.Number-1))
		case !hmac.Equal(own[:], e.mac[:]):
			e.Broken = "it was changed, or is another person's, or what stood before it is gone"
		}
		lines = append(lines, e)
		proof = next
		to = link{max(e.Number, to.number), e.mac}
		if e.Kind == Checkpoint {
			to.mac = e.last
		}
	}
	number, kept, _ := strings.Cut(head, " ")
	n, err := strconv.ParseUint(number, 10, 64)
	broken := ""
	switch {
	case head == "" && len(texts) == 0:
		return lines
	case head == "":
		broken = "the proof of the last event is gone"
	case err != nil || n > maxNumber:
		broken = "the proof of the last event cannot be read"
	case n > to.number:
		broken = "at the end " + gone(to.number+1, n)
	case n < to.number || base64.RawURLEncoding.EncodeToString(proof[:]) != kept:
		broken = "the proof of the last event is another's: events at the end were changed, cut off or added"
	}
	if broken != "" {
		lines = append(lines, line{Event: Event{Number: max(n, to.number), Kind: Missing, Broken: broken}})
	}
	return lines
}

func gone(from, to uint64) string {
	if from == to {
		return fmt.Sprintf("number %d is missing", from)
	}
	return fmt.Sprintf("numbers %d to %d are missing", from, to)
}

// broken returns the first flaw of a verified history as an error that wraps ErrBroken, or nil.
func broken(lines []line) error {
	for _, l := range lines {
		if l.Broken != "" {
			return fmt.Errorf("%w: number %d: %s", ErrBroken, l.Number, l.Broken)
		}
	}
	return nil
}
