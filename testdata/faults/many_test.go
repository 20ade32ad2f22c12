package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// The example is one that HAProxy takes, and all of its addresses are replaced for a run.
func TestBalancerExample(t *testing.T) {
	if _, err := exec.LookPath(haproxy()); err != nil {
		t.Skip("haproxy is not installed; make need does that on Debian")
	}
	text, err := os.ReadFile(filepath.Join("..", "..", proxyConfig))
	if err != nil {
		t.Fatal(err)
	}
	var gateways []*gateway
	for range manyGateways {
		ports, err := freePorts(3)
		if err != nil {
			t.Fatal(err)
		}
		gateways = append(gateways, &gateway{smtp: ports[0], page: ports[1], api: "http://" + ports[2]})
	}
	ports, err := freePorts(3)
	if err != nil {
		t.Fatal(err)
	}
	if text, err = ownAddresses(text, "/tmp/admin.sock", ports, gateways); err != nil {
		t.Fatal(err)
	}
	_, rules, _ := bytes.Cut(text, []byte("\nglobal\n"))
	for _, example := range []string{"10.0.0.", "192.0.2.", "ssl crt", "/run/haproxy"} {
		if bytes.Contains(rules, []byte(example)) {
			t.Errorf("%q is left in\n%s", example, rules)
		}
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(haproxy(), "-c", "-f", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// What must not be is told.
func TestManyIsBad(t *testing.T) {
	good := func() *manyTally {
		t := newManyTally(90 * time.Second)
		t.delivered, t.tested, t.clicked, t.kills, t.elsewhere = 6000, 900, 300, 2, 5
		t.share, t.pages = []int{2000, 2100, 1900}, []int{100, 110, 90}
		for _, b := range blows {
			t.blows[b.name]++
		}
		for name, w := range t.ways {
			*w = wayTally{messages: 3000, delivered: 3000, apart: 30, share: []int{1000, 1100, 900}, longest: time.Second}
			t.strangers[name], t.kept[name] = 530, 3
		}
		t.peers[allowed] = 6000
		t.networks = map[string]int{"known " + farNetwork: 150, "pretended ": 150}
		return t
	}
	if all := good(); all.bad() {
		t.Errorf("all is well, and it is bad: %q", all.wrong())
	}
	for name, spoil := range map[string]func(*manyTally){
		"lost":                      func(t *manyTally) { t.lost = 1 },
		"tracked":                   func(t *manyTally) { t.tracked = 1 },
		"mailed":                    func(t *manyTally) { t.mailed = 1 },
		"doubled beyond the kills":  func(t *manyTally) { t.doubled = 2*inFlight + 1 },
		"no kill":                   func(t *manyTally) { delete(t.blows, "killed") },
		"no end":                    func(t *manyTally) { delete(t.blows, "ended") },
		"no click":                  func(t *manyTally) { t.clicked = 0 },
		"no withdrawal":             func(t *manyTally) { t.tested = 0 },
		"a gateway without a share": func(t *manyTally) { t.ways["v1"].share = []int{1500, 1500, 0} },
		"a page without a share":    func(t *manyTally) { t.pages = []int{150, 150, 0} },
		"a way without mail":        func(t *manyTally) { t.ways["v2"].delivered = 0 },
		"a way that halts":          func(t *manyTally) { t.ways["v2"].longest = 4 * time.Second },
		"no mail without Redis":     func(t *manyTally) { t.ways["v1"].apart = 0 },
		"nothing under way":         func(t *manyTally) { t.kept["v2"] = 0 },
		"cut off at an end":         func(t *manyTally) { t.cut = []string{"late-v1-0-0"} },
		"twice at an end":           func(t *manyTally) { t.again = 1 },
		"a blind balancer":          func(t *manyTally) { t.blind = 1 },
		"no answer":                 func(t *manyTally) { t.stuck = 1 },
		"no other gateway":          func(t *manyTally) { t.elsewhere = 0 },
		"given up":                  func(t *manyTally) { t.givenUp = 1 },
		"the balancer's page":       func(t *manyTally) { t.faceless = []string{"503"} },
		"a reader without a name":   func(t *manyTally) { t.networks = map[string]int{"known ": 150, "pretended ": 150} },
		"a reader believed":         func(t *manyTally) { t.networks["pretended "+farNetwork] = 1 },
		"a log of checks":           func(t *manyTally) { t.quietLines = 1 },
		"a stranger may send":       func(t *manyTally) { t.strangers["v1"] = 250 },
		"the balancer is the peer":  func(t *manyTally) { t.peers["127.0.0.1"] = 1 },
		"waits for ever":            func(t *manyTally) { t.waiting = "1 message" },
	} {
		all := good()
		if spoil(all); !all.bad() {
			t.Errorf("%s, and all is well", name)
		}
	}
}
