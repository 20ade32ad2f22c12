package relay

import (
	"bytes"
	"io"
	"sync"
)

// dataLines reads the lines of a message behind DATA below go-smtp, whose reader takes one byte at a
// time: whole lines, with the dots undone (RFC 5321 §4.5.2), as long as there is nothing about their
// ends that anybody could read in another way. It is at its end, io.EOF, before the line that ends the
// message and before any that is not such: from the beginning of that line go-smtp's reader goes on,
// with all that guards it.
type dataLines struct {
	c     *conn
	block *[]byte // nil at the end
	ready []byte  // lines of the block that may be handed out, without a dot to undo in them
	rest  []byte  // of the block, from the beginning of a line
}

var blocks = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// dataLines returns a reader of what comes next, nil where go-smtp may have some of it already.
func (c *conn) dataLines() *dataLines {
	c.mu.Lock()
	lines := c.lines
	c.lines = false
	c.mu.Unlock()
	if !lines {
		return nil
	}
	return &dataLines{c: c, block: blocks.Get().(*[]byte)}
}

func (d *dataLines) Read(p []byte) (int, error) {
	for len(d.ready) == 0 {
		if d.block == nil {
			return 0, io.EOF
		}
		if d.next(); len(d.ready) == 0 && !d.more() {
			d.close()
		}
	}
	n := copy(p, d.ready)
	d.ready = d.ready[n:]
	return n, nil
}

// next makes the lines ready that stand at the beginning of the rest.
func (d *dataLines) next() {
	end := 0
	for {
		size := bytes.IndexByte(d.rest[end:], '\n') + 1
		line := d.rest[end : end+size]
		dot := size > 0 && line[0] == '.'
		if !isPlainLine(line) || dot && (end > 0 || line[1] == '\r') {
			break
		}
		if dot {
			d.rest, size = d.rest[1:], size-1
		}
		end += size
	}
	d.ready, d.rest = d.rest[:end], d.rest[end:]
}

// isPlainLine reports whether a line, which is empty or ends with LF, ends as it should: with CR LF, and
// not with CR CR LF, of which the second CR is text to some.
func isPlainLine(line []byte) bool {
	n := len(line)
	return n >= 2 && line[n-2] == '\r' && (n == 2 || line[n-3] != '\r')
}

// more reads on behind a line that is not there as a whole. It reports false where the line is, or
// does not fit in, since it is not for this reader then, or where nothing comes.
func (d *dataLines) more() bool {
	if len(d.rest) == len(*d.block) || bytes.IndexByte(d.rest, '\n') >= 0 {
		return false
	}
	kept := copy(*d.block, d.rest)
	n, err := d.c.take((*d.block)[kept:])
	d.rest = (*d.block)[:kept+n]
	return err == nil // else go-smtp's reader gets it, too
}

// close gives what is left to go-smtp. Lines that are ready, but were not read, are gone: their dots
// are undone.
func (d *dataLines) close() {
	if d.block == nil {
		return
	}
	d.c.unread(d.rest)
	blocks.Put(d.block)
	d.block, d.ready, d.rest = nil, nil, nil
}

// unread puts p, which begins with a line, before what is read next.
func (c *conn) unread(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead = append(bytes.Clone(p), c.ahead...)
	c.lost = lostCR{state: 1, tail: [2]byte{'\r', '\n'}}
}
