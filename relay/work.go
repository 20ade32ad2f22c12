package relay

import "runtime"

// work bounds how many messages are read, and how many copies signed, at once. Both take nothing but processor
// time, so more at once than there are processors is no faster; but with a thousand connections what answers
// within moments, a consent store with its timeouts above all, would stand in line behind all of them. What is
// large has places of its own, so that it neither keeps the rest waiting nor is in memory many times.
type work struct {
	small, large chan struct{}
}

func newWork() work {
	n := runtime.GOMAXPROCS(0)
	return work{small: make(chan struct{}, 2*n), large: make(chan struct{}, n)}
}

// on waits for a place for work on a message, and returns what is to be called at its end.
func (w work) on(b *body) (end func()) {
	places := w.small
	if b.Bytes() == nil {
		places = w.large
	}
	places <- struct{}{}
	return func() { <-places }
}
