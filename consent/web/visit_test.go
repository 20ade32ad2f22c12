package web

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/consentgate/consentgate/consent"
)

// Each request is counted once, by what was asked and how it went.
func TestCount(t *testing.T) {
	counted := map[string]int{}
	c := PublicConfig{Count: func(what, result string) { counted[what+" "+result]++ }}
	s := newConfirming(t, c)
	const oneClick = "List-Unsubscribe=One-Click"
	s.do("GET", s.link("en"), "", "")
	s.do("HEAD", s.link("en"), "", "")
	s.post(s.link("en"), oneClick)
	s.post(s.link("en"), "do=stop-tracking")
	s.post(s.link("en"), "do=nothing-of-ours")
	s.post(s.link("en"), "do=undo&slip=x")
	s.post(s.link("en"), "do=save&open=granted")
	for range 121 {
		s.do("GET", "/u/nonsense", "", "")
	}
	s.do("DELETE", s.link("en"), "", "")
	s.do("GET", "/u/c/nonsense", "", "")
	s.store.err = consent.ErrUnreachable
	s.do("GET", s.link("en"), "", "")
	s.post(s.link("en"), oneClick)
	want := map[string]int{"page ok": 2, "one_click ok": 1, "choice ok": 2, "choice bad": 1, "undo bad": 1, "bad_link bad": 120, "bad_link limited": 2, "page bad": 1, "page down": 1, "one_click down": 1}
	if !reflect.DeepEqual(counted, want) {
		t.Errorf("counted %v\nwant    %v", fmt.Sprint(counted), fmt.Sprint(want))
	}
}
