package relay

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is a pair of PEM files that is read again when they change, looked at once a second
// at most. A pair that cannot be used is logged, and the one before stays.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	pair    *tls.Certificate
	looked  time.Time
	read    [2]os.FileInfo // what the files were when they were read
	readErr error          // and what came of it
	said    string         // the mistake that is in the log
}

// LoadTLS returns what a TLS server needs of a pair of PEM files, which are read again when they change.
func LoadTLS(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	pair, err := loadCertificate(certFile, keyFile, log)
	if err != nil {
		return nil, err
	}
	return &tls.Config{GetCertificate: pair.get, MinVersion: tls.VersionTLS12}, nil
}

// CertificateEnds returns when the certificate ends that a server with c would show now; false where c is nil.
func CertificateEnds(c *tls.Config) (time.Time, bool) {
	if c == nil {
		return time.Time{}, false
	}
	pair, err := c.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil || pair.Leaf == nil {
		return time.Time{}, false
	}
	return pair.Leaf.NotAfter, true
}

func loadCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// load reads the files if they are others than before.
func (c *certificate) load() error {
	var now [2]os.FileInfo
	for i, file := range []string{c.certFile, c.keyFile} {
		var err error
		if now[i], err = os.Stat(file); err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
	}
	if c.read[0] != nil && isSame(c.read[0], now[0]) && isSame(c.read[1], now[1]) {
		return c.readErr
	}
	c.read = now
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		c.readErr = fmt.Errorf("certificate %s: %w", c.certFile, err)
		return c.readErr
	}
	c.pair, c.readErr = &pair, nil
	return nil
}

// isSame reports whether a file was not touched; one may be a symbolic link that leads elsewhere now.
func isSame(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// get is a tls.Config's GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.looked) < time.Second {
		return c.pair, nil
	}
	c.looked = now
	before := c.pair
	err := c.load()
	switch {
	case err == nil:
		c.said = ""
		if c.pair != before {
			c.log.Info("the TLS certificate was read again", "file", c.certFile)
		}
	case err.Error() != c.said:
		c.said = err.Error()
		c.log.Error("the TLS certificate cannot be read again; the one before stays", "err", err)
	}
	return c.pair, nil
}
