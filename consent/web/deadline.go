package web

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// The HTTP server gives a request so much time as one record needs. What may take longer, since
// it is long, has a deadline for each piece instead.

// pieceTime is how long a client may take for a piece of a body, or of an answer.
const pieceTime = 30 * time.Second

// extend sets what time is left to read and to write, where there is a connection. Nothing is
// changed for 0.
func extend(c *http.ResponseController, read, write time.Duration) error {
	var err error
	now := time.Now() // of the connection, whatever AdminConfig.Now says
	if read > 0 {
		err = c.SetReadDeadline(now.Add(read))
	}
	if write > 0 {
		err = errors.Join(err, c.SetWriteDeadline(now.Add(write)))
	}
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

// steady reads a body whose every piece comes in time.
type steady struct {
	body    io.Reader
	control *http.ResponseController
}

func (s *steady) Read(b []byte) (int, error) {
	if err := extend(s.control, pieceTime, rightsTimeout); err != nil {
		return 0, err
	}
	n, err := s.body.Read(b)
	if err != nil && err != io.EOF {
		err = bad("", "the body could not be read to its end")
	}
	return n, err
}

// patient writes to a client that takes each piece in time.
type patient struct {
	w     http.ResponseWriter
	begun bool
}

func (p *patient) Write(b []byte) (int, error) {
	p.begun = true
	if err := extend(http.NewResponseController(p.w), 0, pieceTime); err != nil {
		return 0, err
	}
	return p.w.Write(b)
}
