package browser

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/png"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/consent/web"
)

// pageSite serves the unsubscribe page of one person.
type pageSite struct {
	t     *testing.T
	url   string
	shots string // where pictures are kept
	store consent.Store
	links *token.Sealer
	who   consent.Address
	scope consent.Scope

	mu      sync.Mutex
	letters []web.Letter
}

// newPageSite serves one; own has a logo, and a colour that is hard to read.
func newPageSite(t *testing.T, shots, lang string, own bool) *pageSite {
	t.Helper()
	ring := keyring.Ephemeral()
	dir := t.TempDir()
	store, err := boltstore.Open(filepath.Join(dir, "consent.db"), ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	s := &pageSite{t: t, shots: shots, store: store, links: token.New(ring), scope: "newsletter"}
	if s.who, err = consent.ParseAddress("reader@example.org"); err != nil {
		t.Fatal(err)
	}
	c := web.PublicConfig{Store: store, Links: s.links, Ring: ring, Company: "Example Shop", Log: slog.New(slog.DiscardHandler), Now: time.Now,
		BaseURL: "http://mail.example.org", SendLetter: func(_ context.Context, l web.Letter) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.letters = append(s.letters, l)
			return nil
		}}
	if own {
		c.Colour = "#ffd500"
		file := filepath.Join(dir, "logo.png")
		if err := os.WriteFile(file, logo(t), 0o600); err != nil {
			t.Fatal(err)
		}
		if c.Logo, err = web.ReadLogo(file); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(web.NewPublic(c))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *pageSite) link(lang string) string {
	return "/u/" + s.links.Seal(token.Claims{Who: s.who, Scope: s.scope, Language: lang})
}

// confirmLink is that of the last letter.
func (s *pageSite) confirmLink() string {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.letters) > 0 {
		if m := pageLink.FindStringSubmatch(s.letters[len(s.letters)-1].Text); m != nil {
			return m[1]
		}
	}
	s.t.Fatalf("no link was sent in %v", s.letters)
	return ""
}

// logo draws a picture of three discs.
func logo(t *testing.T) []byte {
	t.Helper()
	img := image.NewPaletted(image.Rect(0, 0, 120, 36), color.Palette{color.Transparent, color.RGBA{0, 51, 102, 255}, color.RGBA{255, 213, 0, 255}})
	for x := range 120 {
		for y := range 36 {
			if dx, dy := x%40-20, y-18; dx*dx+dy*dy < 15*15 {
				img.SetColorIndex(x, y, uint8(1+x/40%2))
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
