package main

import (
	"fmt"
	"strings"
	"time"
)

// redisReport is the section about Redis.
func redisReport(rows []*redisTally) string {
	var b strings.Builder
	fmt.Fprintf(&b, `## Redis

Written by `+"`make faults`"+` on %s. Each fault is made again and again while three gateways, one in each mode, share the Redis and are sent up to
90 messages a second each, one in six transactional, to people who agreed, who did not, who unsubscribed, and who change their mind meanwhile
through any of the gateways. A withdrawal that was confirmed must hold for what is submitted after it through that gateway, and 0.1 s later through the others.
`, time.Now().UTC().Format("2006-01-02"))
	b.WriteString(`
"Away" is from the fault to when Redis served again, which with Sentinel and Cluster is when another server had taken its place; "flows" from then to the first
marketing copy at the smarthost, in a Cluster for a person whose server was struck; both are the longest. "ms" is the median from MAIL to the answer of a marketing message, and the CPU time of the
gateway a message, the API's and the retries' share included. What was answered 451 its sender still has. "Withdrawn before" are the recipients whose withdrawal was confirmed before the message. "Untracked though agreed" is about marketing mail, and 250 is the only answer to transactional mail that is right.

`)
	b.WriteString("| what is wrong with Redis | mode | times | away s | answered 250 | 451 | other | delivered | reported | withdrawn before | lost | doubled | tracked without consent | mailed though unsubscribed | untracked though agreed | transactional refused | flows ms | spool empty s after the end | ms, CPU ms while well | while wrong |\n")
	b.WriteString("|" + strings.Repeat("---|", 20) + "\n")
	confirmed, unconfirmed, last, notes := 0, 0, "", ""
	for _, t := range rows {
		flows := fmt.Sprintf("%.0f", ms(t.flows))
		if t.flows < 0 {
			flows = "never"
		}
		drained := "–"
		if t.mode != "stateless" {
			drained = fmt.Sprintf("%.1f", t.drained.Seconds())
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %.1f | %d | %d | %d | %d | %d | %d | **%d** | **%d** | **%d** | **%d** | **%d** | **%d** | %s | %s | %v | %v |\n",
			t.fault, t.mode, t.times, t.away.Seconds(), t.messages, t.deferred, t.refused+t.unsure, t.delivered, t.reported, t.tested,
			t.lost, t.doubled, t.tracked, t.mailed, t.missed, t.held, flows, drained, t.well, t.wrong)
		if t.fault != last {
			last = t.fault
			confirmed += t.confirmed
			unconfirmed += t.unconfirmed
		}
		if t.note != "" {
			notes += "\n" + t.note + "\n"
		}
	}
	fmt.Fprintf(&b, "\n%d changes were confirmed, and %d were not and were tried again.\n%s", confirmed, unconfirmed, notes)
	return b.String()
}
