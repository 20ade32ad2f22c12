package relay

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// However many senders there are at once, only so many messages are worked on; what is large waits for others
// that are large alone. All are answered in the end.
func TestWorkIsBounded(t *testing.T) {
	b := start(t, nil)
	for name, tt := range map[string]struct {
		places chan struct{}
		waits  string
		passes string
	}{
		"small": {b.work.small, newsletter, large()},
		"large": {b.work.large, large(), newsletter},
	} {
		t.Run(name, func(t *testing.T) {
			for range cap(tt.places) {
				tt.places <- struct{}{}
			}
			answers := make(chan string)
			for i := range 5 {
				c := b.hello()
				go func() { answers <- c.send(fmt.Sprintf("joe%d@example.com", i), tt.waits) }()
			}
			// This one passes them by.
			before := len(b.sink.got())
			if name == "large" {
				if got := b.hello().send("jane@example.com", tt.passes); !strings.HasPrefix(got, "250") {
					t.Error(got)
				}
				before++
			}
			select {
			case got := <-answers:
				t.Errorf("there was no place, and it was answered %q", got)
			case <-time.After(50 * time.Millisecond): // the others have nothing to wait for
			}
			if n := len(b.sink.got()); n != before {
				t.Errorf("%d messages left, not %d", n, before)
			}
			for range cap(tt.places) {
				<-tt.places
			}
			for range 5 {
				if got := <-answers; !strings.HasPrefix(got, "250") {
					t.Error(got)
				}
			}
		})
	}
}

func large() string { return newsletter + strings.Repeat(strings.Repeat("x", 70)+"\r\n", inMemory/70) }
