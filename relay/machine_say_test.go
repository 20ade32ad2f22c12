package relay

import (
	"fmt"
	"strings"
)

// What the machine says, each with the replies that are right for it: RFC 5321 §4.3.2, RFC 3030, RFC 2033.

func (m *machine) hello() {
	verb := "EHLO"
	if m.lmtp {
		verb = "LHLO"
	}
	m.body = ""
	m.say(verb+" client.example.org", func() []int { return []int{250} }, func(int) { m.greeted = true; m.reset() })
}

func (m *machine) mail(variant int) {
	m.body = ""
	tx := &deal{name: fmt.Sprintf("t%d-%d", len(m.all), len(m.waiting)), codes: map[deed]int{}}
	line, bad := "MAIL FROM:<"+tx.name+"@example.org> ENVID="+tx.name, 0
	switch variant {
	case 1:
		line, tx.null = "MAIL FROM:<> ENVID="+tx.name, true
	case 2:
		line, bad = line+" SIZE=5000", 552
	case 3:
		line, bad = "MAIL FROM: nobody", 501
	case 4:
		line += " BODY=8BITMIME RET=HDRS SIZE=300"
	}
	m.say(line, func() (right []int) {
		if !m.greeted || m.chunked {
			right = append(right, 502, 503)
		}
		if m.tx != nil {
			right = append(right, 503)
		}
		if m.broken {
			right = append(right, 421)
		}
		if m.closed && !m.known {
			right = append(right, 530)
		}
		if bad != 0 {
			right = append(right, bad)
		}
		if len(right) == 0 || m.broken { // the transfer may have ended in time
			right = append(right, 250)
		}
		return right
	}, func(code int) {
		if code == 250 || code == -250 {
			m.tx = tx
			tx.shop = m.closed && m.shop
			m.all = append(m.all, tx)
		}
	})
}

func (m *machine) rcpt(person, variant int) {
	d := deed{person: m.person(person)}
	line, bad := "RCPT TO:<"+d.person+"@example.com>", 0
	switch variant {
	case 1:
		d.notify = "NEVER"
	case 2:
		d.notify = "SUCCESS,FAILURE"
	case 3:
		line, bad = "RCPT TO:<"+d.person+"@exam ple.com>", 501
	}
	if d.notify != "" {
		line += " NOTIFY=" + d.notify
	}
	m.say(line, func() (right []int) {
		switch {
		case m.tx == nil, m.chunked:
			right = append(right, 502, 503)
		case len(m.tx.rcpts) >= 6, m.Server.cfg.Mode == Stateless && !m.lmtp && len(m.tx.rcpts) == 1:
			right = append(right, 452)
		}
		if bad != 0 {
			right = append(right, bad)
		}
		if len(right) == 0 {
			right = append(right, 250)
		}
		return right
	}, func(code int) {
		if code == 250 || code == -250 {
			d.tx = m.tx.name
			m.tx.rcpts = append(m.tx.rcpts, d)
		}
	})
}

// notReady are the replies to DATA and BDAT out of order; none where there is a transaction with recipients.
func (m *machine) notReady() []int {
	if m.tx == nil || len(m.tx.rcpts) == 0 {
		return []int{502, 503, 554}
	}
	return nil
}

func (m *machine) data(text string) {
	m.body = ""
	m.say("DATA", func() []int {
		if m.chunked {
			return []int{502, 503}
		}
		if right := m.notReady(); right != nil {
			return right
		}
		return []int{354}
	}, func(code int) {
		if code != 354 {
			return
		}
		tx := m.tx
		tx.text = text
		m.finish(tx)
		m.send([]byte(strings.ReplaceAll(text, "\r\n.", "\r\n..") + ".\r\n"))
		m.final(tx)
	})
	m.flush()
}

// chunk sends a part of a message by BDAT, RFC 3030.
func (m *machine) chunk(variant, size int) {
	first := m.body == ""
	if first {
		m.body = m.message(variant)
	}
	last := size >= 200
	if last {
		size = len(m.body)
	}
	size = min(size, len(m.body))
	part := m.body[:size]
	m.body = m.body[size:]
	line := fmt.Sprintf("BDAT %d", size)
	if last {
		line += " LAST"
		m.body = ""
	}
	m.say(line, func() []int {
		if right := m.notReady(); right != nil {
			return right
		}
		m.tx.odd = m.tx.odd || first != (m.tx.text == "") // an empty first chunk does that, too
		m.tx.text += part
		if last {
			m.finish(m.tx)
			return []int{250, 450, 451, 452, 550, 552, 554, 555}
		}
		if m.lmtp || !isRefused(m.tx.text) {
			return []int{250}
		}
		return []int{250, 554, 552, 550} // it may be seen only with the next chunk, or not yet
	}, func(code int) {
		tx := m.tx
		switch {
		case tx == nil || len(tx.rcpts) == 0:
		case last:
			m.told(tx, 0, code)
			if m.lmtp && code > 0 { // else nobody reads the replies
				m.rest(tx)
			}
			m.tx, m.chunked = nil, false
		case code == 250 || code == -250:
			m.chunked = true
		default:
			m.tx, m.chunked = nil, false
		}
	})
	if m.conn != nil {
		m.out.WriteString(part)
	}
}

// finish notes what people wanted when the last byte of a message went out.
func (m *machine) finish(tx *deal) {
	tx.ended = true
	tx.tracked, tx.reached = m.people.state()
}

// final reads what is said behind the dot.
func (m *machine) final(tx *deal) {
	code, ok := m.reply("the dot")
	if !ok {
		return
	}
	m.told(tx, 0, code)
	if m.lmtp {
		m.rest(tx)
	}
	m.tx = nil
}

// rest reads the replies to all recipients but the first, RFC 2033 §4.2.
func (m *machine) rest(tx *deal) {
	for i := 1; i < len(tx.rcpts) && m.conn != nil && !m.over; i++ {
		code, ok := m.reply("the dot, once more")
		if !ok {
			return
		}
		m.told(tx, i, code)
	}
}

// told notes what the client was told of a recipient, or of all by SMTP.
func (m *machine) told(tx *deal, i, code int) {
	if code < 0 { // nobody read it
		return
	}
	if code/100 != 2 && code/100 != 4 && code/100 != 5 || code == 421 && !m.over {
		m.fatalf("%d behind the end of a message", code)
	}
	bad := tx.isRefused()
	if bad && !tx.odd && code/100 != 5 {
		m.fatalf("%d to %q", code, tx.text)
	}
	for k, d := range tx.rcpts {
		if m.lmtp && k != i {
			continue
		}
		if before, ok := tx.codes[d]; ok && before != code { // by LMTP, somebody named twice
			m.fatalf("one recipient named twice was answered %d and %d", before, code)
		}
		tx.codes[d] = code
	}
}

func (m *machine) other(variant int) {
	counted := func(int) {
		if m.errors++; m.errors > 3 {
			m.over = true
		}
	}
	is := func(codes ...int) func() []int { return func() []int { return codes } }
	none := func(int) {}
	switch variant {
	case 0:
		m.say("NOOP", is(250), none)
	case 1:
		m.say("VRFY joe", is(250, 251, 252), none)
	case 2:
		m.say("XYZZY now", is(500, 501), counted)
	case 3:
		m.say("", is(500), counted)
	case 4:
		if m.lmtp {
			m.say("EHLO client.example.org", is(500), none) // RFC 2033 §4.1
		} else {
			m.say("LHLO client.example.org", is(500), none)
		}
	case 5:
		m.startTLS(0)
	case 6:
		m.say("EXPN staff", is(502, 550), none)
	case 7:
		m.say("BDAT x", is(501), none)
	}
}

// cut says DATA, or BDAT where bit 1 of n is set, sends the beginning of a message, and goes.
func (m *machine) cut(n int) {
	if m.conn == nil {
		return
	}
	m.body = ""
	if m.tx == nil || len(m.tx.rcpts) == 0 || m.chunked {
		m.abort()
		return
	}
	text := m.message(0)
	if n&2 != 0 {
		m.send([]byte(fmt.Sprintf("BDAT %d LAST\r\n", len(text)) + text[:min(2*n, len(text)-2)]))
	} else {
		m.send([]byte("DATA\r\n"))
		if code, ok := m.reply("DATA"); ok && code == 354 {
			m.send([]byte(text[:min(2*n, len(text)-2)]))
		}
	}
	m.over = true
	if n%2 == 0 {
		m.hangUp()
	} else {
		m.abort()
	}
}

// message makes the next one.
func (m *machine) message(variant int) string {
	m.bodies++
	class, extra, end := "marketing", "", ""
	switch variant % 8 {
	case 1:
		end = "bare\nLF\r\n"
	case 2:
		class = "transactional"
	case 3:
		end = strings.Repeat(strings.Repeat("long ", 14)+"\r\n", 60) // over the limit
	case 4:
		extra = "X-Consent-Class: transactional\r\n"
	case 5:
		end = "bare\rCR\r\n"
	case 6:
		end = ".\r\n..\r\n.mark of a dot\r\n"
	}
	return fmt.Sprintf("From: News <news@example.org>\r\nSubject: %d\r\nX-Consent-Class: %s\r\n%sMIME-Version: 1.0\r\n"+
		"Content-Type: text/html; charset=utf-8\r\n\r\n<p>Hello!</p>\r\n<img src=\"https://t.example.net/open.gif\" width=\"1\" height=\"1\">\r\n"+
		"<a href=\"https://click.pstmrk.it/3s/www.example.org%%2Foffer/abc/def/ghi\">offer</a>\r\n%smark-%d\r\n", m.bodies, class, extra, end, m.bodies)
}

// isRefused reports whether the message of a transaction has to be refused whoever it is for.
func (tx *deal) isRefused() bool {
	return isRefused(tx.text) || tx.shop && strings.Contains(tx.text, "X-Consent-Class: transactional")
}

// isRefused is what can be said of the text alone.
func isRefused(text string) bool {
	return strings.Contains(text, "bare") || len(text) > 4000 || strings.Contains(text, "Class: marketing\r\nX-Consent-Class: trans")
}
