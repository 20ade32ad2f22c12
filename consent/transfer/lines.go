package transfer

import (
	"bufio"
	"bytes"
	"io"
	"slices"
)

// Position is a place between two lines of a file.
type Position struct {
	Offset int64 `json:"offset"` // in bytes from the beginning
	Line   int   `json:"line"`   // lines before it
}

// line is one line as the file has it.
type line struct {
	text []byte // without its end; nothing of one that is too long
	size int64  // in the file, with its end
	long bool   // over MaxLine
}

// lines reads lines of at most MaxLine bytes; longer ones it skips, and says so.
type lines struct {
	src    *bufio.Reader
	queue  []line   // given back, to be read before src
	behind Position // behind the line that next returned last
}

// newLines begins at a place, which is where src stands.
func newLines(src io.Reader, at Position) *lines {
	return &lines{src: bufio.NewReaderSize(src, MaxLine+2), behind: at}
}

// next returns the next line, whose text holds until the next call. At the end it is io.EOF.
func (l *lines) next() (line, error) {
	if len(l.queue) > 0 {
		n := l.queue[0]
		l.queue = l.queue[1:]
		l.advance(n, 1)
		return n, nil
	}
	var n line
	for {
		part, err := l.src.ReadSlice('\n')
		n.size += int64(len(part))
		switch {
		case err == bufio.ErrBufferFull:
			n.long = true
			continue
		case err != nil && err != io.EOF:
			return line{}, err
		case err == io.EOF && n.size == 0:
			return line{}, io.EOF
		}
		if !n.long {
			n.text = bytes.TrimSuffix(bytes.TrimSuffix(part, []byte("\n")), []byte("\r"))
			if n.long = len(n.text) > MaxLine; n.long {
				n.text = nil
			}
		}
		l.advance(n, 1)
		return n, nil
	}
}

func (l *lines) advance(n line, by int) {
	l.behind.Line += by
	l.behind.Offset += int64(by) * n.size
}

// giveBack lets next return these again, the last that it returned. Their texts must be copies.
func (l *lines) giveBack(these []line) {
	for _, n := range these {
		l.advance(n, -1)
	}
	l.queue = slices.Concat(these, l.queue)
}
