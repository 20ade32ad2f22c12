//go:build cgo && linux && !(gc && go1.26 && !go1.27)

package sign

const keepsProcessor = false

func (s *signing) make() { s.call() }
