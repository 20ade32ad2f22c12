package relay

import (
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/relay/spool"
)

func TestForget(t *testing.T) {
	sp, err := spool.Open(t.TempDir()+"/spool", spool.Options{SegmentSize: 1 << 20, ReserveSize: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	for id, to := range map[string][]string{
		"alone":  {"Anna@Example.org"},
		"shared": {"ben@example.org", "anna@example.org", `"anna"@example.org`},
		"other":  {"ben@example.org", "anna+x@example.org"},
	} {
		m := spool.Message{ID: id, Arrived: time.Unix(1_800_000_000, 0), Size: 5}
		for i, r := range to {
			m.Recipients = append(m.Recipients, spool.Recipient{Index: i, To: r})
		}
		if err := sp.Add(spool.New{Message: m, Body: strings.NewReader("hello")}); err != nil {
			t.Fatal(err)
		}
	}
	who, err := consent.ParseAddress("anna@example.org")
	if err != nil {
		t.Fatal(err)
	}
	if err := Forget(sp, who); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, m := range sp.All() {
		for _, r := range m.Recipients {
			got[m.ID] += r.To + " "
		}
	}
	if len(got) != 2 || got["shared"] != "ben@example.org " || got["other"] != "ben@example.org anna+x@example.org " {
		t.Errorf("%q", got)
	}
}
