package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/emersion/go-smtp"

	"github.com/consentgate/consentgate/relay/buffer"
	"github.com/consentgate/consentgate/relay/spool"
	"github.com/consentgate/consentgate/rewrite"
)

// inMemory is the size up to which a message stays in memory while it passes.
const inMemory = 1 << 20

// body is the message as it came in, from the first header field to the last CRLF.
type body struct {
	io.ReaderAt
	size       int64
	header8Bit bool
	file       *os.File    // nil while it is in memory
	lent       []byte      // what package buffer lent for it; nil = nothing
	spooled    *spool.Body // it waits there
}

// Bytes returns the message where it is in memory, else nil. It must not be changed.
func (b *body) Bytes() []byte {
	text, _ := b.ReaderAt.(rewrite.Bytes)
	return text
}

// Close lets go of the body, whose text must not be used any more.
func (b *body) Close() {
	b.ReaderAt = buffer.Closed{}
	buffer.Put(b.lent)
	b.lent = nil
	if b.file != nil {
		b.file.Close() // it has no name any more: closing is what deletes it
	}
	if b.spooled != nil {
		b.spooled.Close() // it was only read
	}
}

// receive reads one message to its end, strictly. tempFile makes the file for what does not stay
// in memory. The error is an *Error; then r need not be at its end.
func receive(r io.Reader, max int64, tempFile func() (*os.File, error)) (_ *body, err error) {
	b := &body{}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	// text is what came and is not in the file, which is where it goes once it is too long.
	text := buffer.Get(usualSize)
	defer func() {
		if b.lent == nil {
			buffer.Put(text)
		}
	}()
	var lines strictLines
	for {
		if len(text) == cap(text) {
			if b.file == nil && len(text) < inMemory {
				more := append(buffer.Get(2*len(text)), text...)
				buffer.Put(text)
				text = more
			} else if err := b.store(text, tempFile); err != nil {
				return nil, err
			} else {
				text = text[:0]
			}
		}
		n, err := r.Read(text[len(text):cap(text)])
		text = text[:len(text)+n]
		if lines.check(text[len(text)-n:]) != nil {
			return nil, lineEnds()
		}
		if b.size += int64(n); b.size > max {
			return nil, tooLarge()
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, readError(err)
		}
	}
	missing, err := lines.end()
	if err != nil {
		return nil, lineEnds()
	}
	if missing {
		if b.size += 2; b.size > max {
			return nil, tooLarge()
		}
		text = append(text, "\r\n"...)
	}
	b.header8Bit = lines.header8Bit
	if b.size > inMemory || b.file != nil {
		if err := b.store(text, tempFile); err != nil {
			return nil, err
		}
		b.ReaderAt = b.file
		return b, nil
	}
	// It may be in memory for long, so it takes no more than twice what it needs.
	if cap(text) > buffer.Max || len(text) < cap(text)/2 && !buffer.Spoils {
		b.ReaderAt = rewrite.Bytes(bytes.Clone(text))
		return b, nil
	}
	b.ReaderAt, b.lent = rewrite.Bytes(text), text
	return b, nil
}

// usualSize has room for most messages. How long one is shows at its end.
const usualSize = 32 << 10

// store puts text at the end of b's file.
func (b *body) store(text []byte, tempFile func() (*os.File, error)) (err error) {
	if b.file == nil {
		if b.file, err = tempFile(); err != nil {
			return diskError(err)
		}
	}
	if _, err := b.file.Write(text); err != nil {
		return diskError(err)
	}
	return nil
}

func tooLarge() error {
	return refuse(552, "5.3.4", "the message is too large", nil)
}

func lineEnds() error {
	return refuse(554, "5.6.0", "the message holds a bare CR, a bare LF or a NUL; lines end with CR LF (RFC 5321 2.3.8)", errLineEnds)
}

// readError says what is to be answered where the data did not come to its end.
func readError(err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, poison):
		return lineEnds()
	case errors.Is(err, smtp.ErrTooLongLine):
		return refuse(554, "5.6.0", fmt.Sprintf("a line is longer than %d bytes", maxLine), err)
	case errors.Is(err, stalled), errors.As(err, &timeout) && timeout.Timeout():
		return refuse(421, "4.4.2", stalled.Message, errLeaving)
	}
	return refuse(451, "4.4.2", "the connection broke before the end of the message", err)
}

// diskError says that there is no room for the message now, RFC 3463 §3.4.
func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return refuse(452, "4.3.1", "no room for the message now, try again later", err)
	}
	return internal(err)
}

// unlinkedTemp makes a file in dir that has no name, so that nothing is left behind whatever
// happens.
func unlinkedTemp(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "consentgate-") // mode 0600
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
