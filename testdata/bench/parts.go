package main

import (
	"context"
	"errors"
	"fmt"
)

// newsletterPart is mail to one person each, in the modes without a queue, beside all peers.
func (b *bench) newsletterPart(ctx context.Context) (_ *section, err error) {
	s := &section{title: "Newsletter, one recipient a message", text: fmt.Sprintf("%d bytes, 60 counted links, one pixel.", b.letter.size())}
	var rows []*row
	for _, conns := range b.conns {
		modes := []string{"cutthrough", "stateless"}
		if b.site.static != "" {
			modes = append(modes, "cutthrough"+inStatic)
		}
		some, err := b.besideAll(ctx, b.letter, conns, modes, postfixSigned, harakaFilter, postfixPlain)
		if err != nil {
			return nil, err
		}
		rows = append(rows, some...)
		for _, mode := range []string{"cutthrough", "stateless"} {
			own := find(rows, ours(mode), conns)
			s.aims = append(s.aims,
				b.ratio(rows, own.name, postfixSigned, conns, "messages/s", rate, 3),
				b.ratio(rows, own.name, harakaFilter, conns, "messages/s", rate, 4),
				b.ratio(rows, own.name, postfixPlain, conns, "messages/s", rate, 0),
				aim{what: fmt.Sprintf("%s, %d connections: CPU a message without a bare rsa.Sign", own.name, conns), unit: "ms", sense: "≤", want: 0.45}.of(func() float64 { return besideSign(own) }, own))
			if conns == b.conns[len(b.conns)-1] {
				s.aims = append(s.aims, aim{what: fmt.Sprintf("%s, %d connections: peak RSS", own.name, conns), unit: "MB", sense: "<", want: 64}.of(func() float64 { return own.peak }, own))
			}
		}
	}
	s.table = table(rows, named, connections, perSecond, spread, cpuEach, cpuBeside, answer50, answer99, memory, peak, others)
	return s, nil
}

// besideAll measures fresh gateways in these modes, in turn with the peers and the bare sink.
func (b *bench) besideAll(ctx context.Context, msg *message, conns int, modes []string, others ...string) (rows []*row, err error) {
	own, stop, err := b.gateways(ctx, modes...)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return nil, err
	}
	theirs, err := b.beside(ctx, others...)
	if err != nil {
		return nil, err
	}
	var targets []*target // one of ours, one of theirs
	for i := range max(len(own), len(theirs)) {
		if i < len(own) {
			targets = append(targets, own[i])
		}
		if i < len(theirs) {
			targets = append(targets, theirs[i])
		}
	}
	return b.turns(ctx, load{message: msg, conns: conns, rcpts: 1, people: b.people}, append(targets, b.direct())...)
}

// recipientsPart is messages to many people: a copy each from the gateway, one for all from Postfix.
func (b *bench) recipientsPart(ctx context.Context) (_ *section, err error) {
	few := min(10, b.many)
	s := &section{title: "Many recipients a message", text: fmt.Sprintf("The newsletter to %d and to %d people in one transaction. The gateway makes, signs and sends a copy for each; "+
		"Postfix sends one for all.", few, b.many)}
	own, stop, err := b.gateways(ctx, "cutthrough")
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return nil, err
	}
	theirs, err := b.beside(ctx, postfixPlain)
	if err != nil {
		return nil, err
	}
	conns := b.conns[0]
	rows, err := b.turns(ctx, load{message: b.letter, conns: conns, rcpts: few, people: b.people}, append(own, theirs...)...)
	if err != nil {
		return nil, err
	}
	many, err := b.turns(ctx, load{message: b.letter, conns: 2, rcpts: b.many, people: b.people}, own...)
	if err != nil {
		return nil, err
	}
	s.aims = []aim{
		b.ratio(rows, ours("cutthrough"), postfixPlain, conns, "recipients/s", rate, 0),
		aim{what: fmt.Sprintf("%d recipients: CPU a copy without a bare rsa.Sign", few), unit: "ms", sense: "≤", want: 0.25}.of(func() float64 { return besideSign(rows[0]) }, rows[0]),
		aim{what: fmt.Sprintf("%d recipients: CPU a copy without a bare rsa.Sign", b.many), unit: "ms", sense: "<", want: 0.12}.of(func() float64 { return besideSign(many[0]) }, many[0]),
	}
	s.table = table(append(rows, many...), named, connections, recipients, copiesPerSecond, cpuCopy, cpuBeside, answer50, answer99, memory, peak, others)
	return s, nil
}

// spoolPart is mail that is durable before the answer, beside a Postfix that does no more than that.
func (b *bench) spoolPart(ctx context.Context) (*section, error) {
	s := &section{title: "Mode spool: on disk before the answer",
		text: "Both have each message on disk, synced, before they answer, and deliver it behind that. Accepted/s counts until the sender has " +
			"the last answer, messages/s until the sink has the last message. Waiting: the most messages at a time that were accepted and had not " +
			"yet arrived, and the longest that one did so, in any of the runs; so is the queue seen from outside, that of Postfix as that of the gateway."}
	var rows []*row
	for _, conns := range b.conns {
		some, err := b.besideAll(ctx, b.letter, conns, []string{"spool"}, postfixPlain)
		if err != nil {
			return nil, err
		}
		for _, r := range some {
			if r.name != straight {
				rows = append(rows, r)
			}
		}
		s.aims = append(s.aims,
			b.ratio(rows, ours("spool"), postfixPlain, conns, "accepted/s", accepted, 4),
			b.ratio(rows, ours("spool"), postfixPlain, conns, "messages/s", rate, 2.5))
	}
	s.table = table(rows, named, connections, acceptedPerSecond, perSecond, spread, waiting, longest, cpuEach, answer50, answer99, memory, peak, others)
	return s, nil
}

// textPart is small mail, of which fixed costs are the most.
func (b *bench) textPart(ctx context.Context) (*section, error) {
	msg, err := newMessage(plainText(textSize))
	if err != nil {
		return nil, err
	}
	s := &section{title: "Text of 2 KB", text: fmt.Sprintf("%d bytes of text without links; it is looked up, gets its footer and is signed as every copy.", msg.size())}
	conns := b.conns[0]
	rows, err := b.besideAll(ctx, msg, conns, []string{"cutthrough", "stateless"}, postfixSigned)
	if err != nil {
		return nil, err
	}
	for _, mode := range []string{"cutthrough", "stateless"} {
		s.aims = append(s.aims, b.ratio(rows, ours(mode), postfixSigned, conns, "messages/s", rate, 4))
	}
	s.table = table(rows, named, connections, perSecond, spread, cpuEach, cpuBeside, answer50, answer99, memory, peak, others)
	return s, nil
}

// latencyPart is one newsletter at a time: what the gateway adds to the way to the sink.
func (b *bench) latencyPart(ctx context.Context) (*section, error) {
	s := &section{title: "Time added", text: "One connection, one newsletter at a time, from MAIL to the answer to the message. The gateway's answer is that of " +
		"the sink, so all it does is in it, the signature too; Postfix answers before it delivers. Haraka is left out: with one connection its answers wait for " +
		"delayed acknowledgements."}
	rows, err := b.besideAll(ctx, b.letter, 1, []string{"cutthrough", "stateless"}, postfixSigned)
	if err != nil {
		return nil, err
	}
	direct := find(rows, straight, 1)
	for _, mode := range []string{"cutthrough", "stateless"} {
		own := find(rows, ours(mode), 1)
		for _, one := range []struct {
			name string
			of   func(figures) float64
			want float64
		}{
			{"p50", func(f figures) float64 { return f.whole50 }, 2},
			{"p99", func(f figures) float64 { return f.whole99 }, 6},
		} {
			s.aims = append(s.aims, aim{what: own.name + ": " + one.name + " added to that straight to the sink", unit: "ms", sense: "<", want: one.want}.of(func() float64 {
				return median(paired(own, direct, func(a, b figures) float64 { return one.of(a) - one.of(b) }))
			}, own, direct))
		}
	}
	s.table = table(rows, named, connections, perSecond, whole50, whole99, cpuEach, others)
	return s, nil
}
