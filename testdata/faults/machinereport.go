package main

import (
	"fmt"
	"strings"
	"time"
)

// machineReport is the section about what surrounds a gateway.
func machineReport(rows []*machineTally) string {
	var b strings.Builder
	fmt.Fprintf(&b, `%s

Written by `+"`make faults`"+` on %s. Each fault is made again and again while two gateways, one in each mode that has a spool, share a Redis and are sent mail over four connections
each, to people who agreed, who did not, who unsubscribed, and who change their mind meanwhile. Proxies stand before the gateways, behind them and before Redis; faults of the network
strike these three in turn. The clock and the disk that go wrong are the gateway's alone: it is built with a time.Now that adds some seconds, and with an fsync and an
fdatasync that are slow or fail. What is doubled needlessly was answered 250 by the smarthost, and nothing cut the answer off. "Flows" is from the end of the fault to the first
marketing copy at the smarthost, the longest of all times.

`, parts[partMachine], time.Now().UTC().Format("2006-01-02"))
	b.WriteString("| what is wrong | mode | times | answered 250 | 451 | other | delivered | reported | withdrawn before | lost | doubled | of these, needlessly | tracked without consent | mailed though unsubscribed | untracked though agreed | transactional refused | flows ms | spool empty s after the end |\n")
	b.WriteString("|" + strings.Repeat("---|", 18) + "\n")
	for _, t := range rows {
		flows := fmt.Sprintf("%.0f", ms(t.flows))
		if t.flows < 0 {
			flows = "never"
		}
		held := fmt.Sprintf("**%d**", t.held)
		if t.mayRefuse {
			held = fmt.Sprint(t.held)
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %d | %d | %d | %d | **%d** | %d | %d | **%d** | **%d** | **%d** | %s | %s | %.1f |\n",
			t.fault, t.mode, t.times, t.messages, t.deferred, t.refused+t.unsure, t.delivered, t.reported, t.tested,
			t.lost, t.doubled, t.needless, t.tracked, t.mailed, t.missed, held, flows, t.drained.Seconds())
	}
	return b.String()
}
