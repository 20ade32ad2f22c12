package relay

import (
	"errors"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/spool"
)

// Forget takes a person out of all that waits: nothing is delivered to who any more, and no sender is
// told. A copy that is on its way just then may still arrive. What others are owed of the same
// message stays as its sender wrote it.
func Forget(waiting *spool.Spool, who consent.Address) error {
	var failed error
	for _, m := range waiting.All() {
		var changes []spool.Change
		for _, r := range m.Recipients {
			if to, err := consent.ParseAddress(r.To); err == nil && to == who {
				changes = append(changes, spool.Change{Index: r.Index, Done: true})
			}
		}
		if len(changes) == 0 {
			continue
		}
		if err := waiting.Update(m.ID, changes); err != nil && !errors.Is(err, spool.ErrNotFound) { // gone meanwhile
			failed = errors.Join(failed, err)
		}
	}
	return failed
}
