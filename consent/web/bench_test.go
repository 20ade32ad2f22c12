package web

import (
	"net/http/httptest"
	"testing"

	"github.com/consentgate/consentgate/consent/token"
)

func BenchmarkPage(b *testing.B) {
	s := newSite(b)
	link := "/u/" + s.links.Seal(token.Claims{Who: s.who, Scope: "newsletter", Language: "en"})
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		s.h.ServeHTTP(w, httptest.NewRequest("GET", link, nil))
		if w.Code != 200 {
			b.Fatal(w.Code)
		}
	}
}
