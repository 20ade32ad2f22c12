package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/consent"
)

// round is the newsletter sent once to all five.
type round struct {
	number int
	at     time.Time
	letter *letter
	copies []outcome // in the order of people
	log    string    // warnings of the gateway
}

// outcome is what became of one person's copy.
type outcome struct {
	person
	record   consent.Record   // what holds in the newsletter's scope
	decision consent.Decision // what that calls for
	answer   string           // of the gateway: "250 2.0.0 ID", "550 5.7.1 …"
	relayed  string           // of the smarthost; "" = it was never asked
	raw      []byte           // as it reached the smarthost; nil = it did not
	report   report
	link     string // to this person's unsubscribe page
}

// round looks up what holds, sends the newsletter to each person in a transaction of their own,
// and reads what reached the smarthost.
func (h *house) round(ctx context.Context, number int) (*round, error) {
	who := make([]consent.Address, len(people))
	for i, p := range people {
		who[i] = p.who
	}
	records, err := h.store.Lookup(ctx, scope, who)
	if err != nil {
		return nil, err
	}
	h.sink.take()
	h.log.take()
	answers, err := h.submit(ctx)
	if err != nil {
		return nil, err
	}
	r := &round{number: number, at: h.now(), letter: h.letter, log: h.log.take()}
	kept := h.sink.take()
	for i, p := range people {
		if records[i].Err != nil {
			return nil, records[i].Err
		}
		o := outcome{person: p, record: records[i].Scope, answer: answers[i]}
		o.decision = consent.Decide(records[i], consent.Marketing, consent.Policy{WhenUnreachable: consent.Defer})
		e := expectation{decision: o.decision, who: p.who, answer: o.answer}
		for _, k := range kept {
			for _, to := range k.to {
				if to == p.who.String() {
					e.arrived++
					o.raw, o.relayed = k.raw, k.answer
				}
			}
			if len(k.to) != 1 {
				e.shared = true
			}
		}
		o.report = h.check(o.raw, e)
		if o.link = o.report.link; o.link == "" {
			o.link = h.seal(p.who)
		}
		r.copies = append(r.copies, o)
	}
	return r, nil
}

// submit sends the newsletter as a shop's mailer would, one transaction a person, and returns
// what the gateway answered to each.
func (h *house) submit(ctx context.Context) ([]string, error) {
	c, err := smtp.Dial(h.gate)
	if err != nil {
		return nil, fmt.Errorf("the gateway: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := c.Hello("mailer.shop.example"); err != nil {
		return nil, fmt.Errorf("the gateway: %w", err)
	}
	answers := make([]string, len(people))
	for i, p := range people {
		answers[i], err = transact(c, p.who.String(), h.letter.raw)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("the gateway, sending to %s: %w", p.who, err)
		}
	}
	return answers, c.Quit()
}

// transact is one transaction (RFC 5321 §3.3). A refusal is an answer, not an error.
func transact(c *smtp.Client, to string, raw []byte) (string, error) {
	answer, err := func() (string, error) {
		if err := c.Mail("bounce@shop.example", nil); err != nil {
			return "", err
		}
		if err := c.Rcpt(to, nil); err != nil {
			return "", err
		}
		w, err := c.Data()
		if err != nil {
			return "", err
		}
		if _, err := w.Write(raw); err != nil {
			return "", err
		}
		done, err := w.CloseWithResponse()
		if err != nil {
			return "", err
		}
		return "250 " + done.StatusText, nil
	}()
	if refused := (*smtp.SMTPError)(nil); errors.As(err, &refused) {
		e := refused.EnhancedCode
		text := strings.ReplaceAll(refused.Message, "\n", " ")
		return fmt.Sprintf("%d %d.%d.%d %s", refused.Code, e[0], e[1], e[2], text), c.Reset()
	}
	return answer, err
}

// deviations lists what is wrong with the copies of this round.
func (r *round) deviations() []string {
	var all []string
	for _, o := range r.copies {
		for _, d := range o.report.deviations {
			all = append(all, o.who.String()+": "+d)
		}
	}
	return all
}
