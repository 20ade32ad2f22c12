package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/emersion/go-smtp"

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
	spooled    *spool.Body // it waits there
}

func (b *body) Close() {
	if b.file != nil {
		b.file.Close() // it has no name any more: closing is what deletes it
	}
	if b.spooled != nil {
		b.spooled.Close() // it was only read
	}
}

// receive reads one message to its end, strictly. tempFile makes the file for what does not stay
// in memory. The error is an *Error; then r need not be at its end.
func receive(r io.Reader, max int64, tempFile func() (*os.File, error)) (*body, error) {
	b := &body{}
	var mem []byte
	var lines strictLines
	write := func(p []byte) error {
		if b.size += int64(len(p)); b.size > max {
			return tooLarge()
		}
		if b.file == nil && len(mem)+len(p) <= inMemory {
			mem = append(mem, p...)
			return nil
		}
		if b.file == nil {
			f, err := tempFile()
			if err != nil {
				return diskError(err)
			}
			b.file = f
			if _, err := f.Write(mem); err != nil {
				return diskError(err)
			}
			mem = nil
		}
		if _, err := b.file.Write(p); err != nil {
			return diskError(err)
		}
		return nil
	}

	fail := func(err error) (*body, error) {
		b.Close()
		return nil, err
	}
	buf := make([]byte, 16<<10)
	for {
		n, err := r.Read(buf)
		if bad := lines.check(buf[:n]); bad != nil {
			return fail(lineEnds())
		}
		if n > 0 {
			if err := write(buf[:n]); err != nil {
				return fail(err)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fail(readError(err))
		}
	}
	missing, err := lines.end()
	if err != nil {
		return fail(lineEnds())
	}
	if missing {
		if err := write([]byte("\r\n")); err != nil {
			return fail(err)
		}
	}
	b.header8Bit = lines.header8Bit
	if b.file != nil {
		b.ReaderAt = b.file
	} else {
		b.ReaderAt = rewrite.Bytes(mem)
	}
	return b, nil
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
