package smarthost

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// Each next hop that was tried for a copy is told of once, with its answer; a message that it could not take is no
// try. What works and what does not is known by the last one.
func TestTook(t *testing.T) {
	var mu sync.Mutex
	var told []string
	good := newFake(t, func(conn int, line string) string {
		switch {
		case strings.Contains(line, "later@"):
			return "451 4.7.1 later"
		case strings.Contains(line, "nobody@"):
			return "550 5.1.1 nobody"
		case strings.HasPrefix(line, "EHLO"):
			return "250-sink.example.org\r\n250 SIZE 1000000"
		}
		return agreeable(conn, line)
	})
	bad := newFake(t, func(int, string) string { return hangUp })
	goodAddress, badAddress := good.l.Addr().String(), bad.l.Addr().String()
	c := newClient(t, func(c *Config) {
		c.MaxConnections = 3
		c.Took = func(hop string, code int, took time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			if took <= 0 || took > time.Minute {
				t.Errorf("%v", took)
			}
			told = append(told, map[string]string{goodAddress: "good", badAddress: "bad"}[hop]+" "+string(rune('0'+code/100)))
		}
	}, "smtp://"+badAddress, "smtp://"+goodAddress)
	if _, limit, hops := c.State(); limit != 3 || len(hops) != 0 {
		t.Errorf("before the first: %d, %v", limit, hops)
	}
	for _, to := range []string{"joe@example.com", "later@example.com", "nobody@example.com"} {
		env := joe
		env.To = to
		if _, err := send(t, c, env, hello); err != nil {
			t.Fatal(err)
		}
	}
	eightBit := joe
	eightBit.Body8Bit = true
	if _, err := send(t, c, eightBit, hello); err == nil {
		t.Error("8-bit text was taken")
	}
	if got := strings.Join(told, ", "); got != "bad 0, good 2, good 4, good 5" {
		t.Errorf("told of %s", got)
	}
	if inUse, _, hops := c.State(); inUse != 0 || !hops[goodAddress] || hops[badAddress] {
		t.Errorf("in use %d, %v", inUse, hops)
	}
}
