package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
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
		return &manyTally{
			redisTally: &redisTally{delivered: 300}, share: []int{100, 110, 90}, kills: 1,
			strangers: map[string]int{"v1": 530, "v2": 530}, peers: map[string]int{allowed: 300},
		}
	}
	if good().bad() {
		t.Error("all is well, and it is bad")
	}
	for name, spoil := range map[string]func(*manyTally){
		"lost":                      func(t *manyTally) { t.lost = 1 },
		"tracked":                   func(t *manyTally) { t.tracked = 1 },
		"mailed":                    func(t *manyTally) { t.mailed = 1 },
		"doubled beyond the kills":  func(t *manyTally) { t.doubled = inFlight + 1 },
		"a gateway without a share": func(t *manyTally) { t.share = []int{150, 150, 0} },
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
