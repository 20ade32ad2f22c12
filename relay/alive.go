package relay

import (
	"context"
	"fmt"
	"time"
)

// Alive says that a running server can do its work: each listener's accept loop goes round, and the spool's
// writer answers before ctx is done. Where it cannot, only another process can. A store, a smarthost or a
// disk that refuses makes no difference: a restart would not mend them.
func (s *Server) Alive(ctx context.Context) error {
	now := time.Now()
	for _, l := range s.listeners {
		if l.stuck(now) {
			return fmt.Errorf("the listener %s takes no connections any more", l.Addr())
		}
	}
	if s.spool == nil {
		return nil
	}
	if err := s.spool.Alive(ctx); err != nil {
		return fmt.Errorf("the spool's writer does not answer: %w", err)
	}
	return nil
}
