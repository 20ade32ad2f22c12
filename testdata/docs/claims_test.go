package docs

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// What pages say of the built-in rules for click counters is what stands in their file.
func TestOpaqueCounters(t *testing.T) {
	var rules struct {
		Rule []struct{ Provider, Kind, Decode string }
	}
	if _, err := toml.DecodeFile("../../rewrite/trackers/rules.toml", &rules); err != nil {
		t.Fatal(err)
	}
	clicks, opaque, providers := 0, 0, map[string]bool{}
	for _, r := range rules.Rule {
		if r.Kind != "click" {
			continue
		}
		if clicks++; r.Decode == "" {
			opaque++
			providers[r.Provider] = true
		}
	}
	for _, p := range []string{"Mailchimp", "Brevo", "HubSpot", "Klaviyo", "Mautic", "listmonk"} {
		if !providers[p] {
			t.Errorf("FAQ.md says that links of %s are opaque", p)
		}
	}
	for path, says := range map[string]string{
		"../../deploy/FAQ.md":    fmt.Sprintf("Of the %d built-in rules for click counters %d are of that kind", clicks, opaque),
		"../../deploy/LIMITS.md": fmt.Sprintf("%d of the %d built-in rules for click counters", opaque, clicks),
		"../../consent/LAW.md":   fmt.Sprintf("%d of the %d built-in rules for click counters", opaque, clicks),
	} {
		if !strings.Contains(read(t, path), says) {
			t.Errorf("%s does not say: %s", path, says)
		}
	}
}

// How many wrong passwords end a connection, as SECURITY.md says, is what the code says.
func TestWrongPasswords(t *testing.T) {
	words := map[string]string{"2": "two", "3": "three", "4": "four", "5": "five"}
	m := regexp.MustCompile(`\bconst maxFailures = (\d+)`).FindStringSubmatch(read(t, "../../relay/auth.go"))
	if m == nil || !strings.Contains(read(t, "../../SECURITY.md"), words[m[1]]+" end the connection") {
		t.Errorf("in the code it is %q", m)
	}
}
