package main

import "testing"

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
