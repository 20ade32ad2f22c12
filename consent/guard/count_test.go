package guard

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/consentgate/consentgate/consent"
)

// Each hit is counted once, by its answer.
func TestCount(t *testing.T) {
	counted := map[string]int{}
	s := newServer(t, nil)
	h := newHouse(t, func(c *Config) { c.Count = func(answer string) { counted[answer]++ } })
	const counter = "https://click.example.net/c?u=1"
	pixel, link, opaque := h.token(consent.Open, s.URL+"/o.gif", ""), h.token(consent.Click, counter, "https://shop.example/"), h.token(consent.Click, counter, "")
	for _, state := range []consent.State{consent.Denied, consent.Granted} {
		h.set(state, state)
		for _, token := range []string{pixel, link, opaque} {
			h.get("GET", token)
		}
	}
	h.get("HEAD", pixel)
	h.get("GET", "nonsense")
	h.get("POST", link)
	want := map[string]int{"blank": 2, "direct": 1, "asked": 1, "fetched": 1, "counted": 2, "bad": 2}
	if !reflect.DeepEqual(counted, want) {
		t.Errorf("counted %v, want %v", fmt.Sprint(counted), fmt.Sprint(want))
	}
}
