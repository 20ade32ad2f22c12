package relay

import (
	"errors"
	"testing"

	"github.com/emersion/go-sasl"
)

// FuzzSASL holds PLAIN against go-sasl's own server, and LOGIN against its client: whoever is asked for, it
// is by the name and the password that were sent, and by nothing else.
func FuzzSASL(f *testing.F) {
	f.Add([]byte("\x00shop\x00secret"), "shop", "secret")
	f.Add([]byte("shop\x00shop\x00secret"), "", "")
	f.Add([]byte("other\x00shop\x00secret"), "a", "\x00")
	f.Add([]byte("\x00\x00\x00"), "x", "")
	f.Add([]byte("shop"), "x", "")
	f.Fuzz(func(t *testing.T, response []byte, name, password string) {
		type asked struct{ name, password string }
		var got, want []asked
		done := errors.New("done")
		_, _, err := plainExchange{func(name, password string) error {
			got = append(got, asked{name, password})
			return done
		}}.Next(response)
		if err == nil {
			t.Fatalf("PLAIN takes %q without asking anybody", response)
		}
		server := sasl.NewPlainServer(func(as, name, password string) error {
			if as == "" || as == name { // the others may log in as somebody else
				want = append(want, asked{name, password})
			}
			return done
		})
		server.Next(response)
		if len(got) != len(want) || len(got) == 1 && got[0] != want[0] {
			t.Fatalf("PLAIN %q asks for %q, go-sasl for %q", response, got, want)
		}

		got = nil
		l := &loginExchange{authenticate: func(name, password string) error {
			got = append(got, asked{name, password})
			return done
		}}
		client := sasl.NewLoginClient(name, password)
		_, said, err := client.Start()
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			challenge, _, err := l.Next(said)
			if err != nil {
				break
			}
			if said, err = client.Next(challenge); err != nil {
				t.Fatalf("LOGIN: %q: %v", challenge, err)
			}
		}
		if len(got) != 1 || got[0] != (asked{name, password}) {
			t.Fatalf("LOGIN asks for %q, sent was %q and %q", got, name, password)
		}
	})
}
