package main

import (
	"crypto/rand"
	"crypto/rsa"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/testdata/process"
)

// A target that refuses mail has failed, at once and once; the other is measured all the same.
func TestTurnsGoOn(t *testing.T) {
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer refusing.Close()
	go func() {
		for {
			c, err := refusing.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "554 no\r\n")
			c.Close()
		}
	}()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMessage([]byte(dotted))
	if err != nil {
		t.Fatal(err)
	}
	redis, err := process.Start(t.TempDir()+"/log", "sleep", "600") // only its CPU is asked for
	if err != nil {
		t.Fatal(err)
	}
	defer redis.Stop()
	b := &bench{options: options{runs: 2, window: 100 * time.Millisecond}, sink: startedSink(t), site: &site{dkimKey: key, redis: redis}}
	bad := &target{name: "refuses", addr: refusing.Addr().String(), pids: b.direct().pids}
	rows, err := b.turns(t.Context(), load{message: m, conns: 2, rcpts: 1, people: 4}, bad, b.direct())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(rows[0].failed, "554 no") || len(rows[0].runs) != 0 || len(b.failures) != 1 {
		t.Errorf("%+v, failures %v", rows[0], b.failures)
	}
	if rows[1].failed != "" || len(rows[1].runs) != 2 || rows[1].sign <= 0 || len(b.rsa) != 2 || len(b.signs) != 2 {
		t.Errorf("%+v, signatures %v, %v", rows[1], b.rsa, b.signs)
	}
	text := (&report{sections: []*section{{table: table(rows, named, perSecond),
		aims: []aim{b.ratio(rows, "refuses", straight, 2, "messages/s", rate, 3)}}}}).text()
	if strings.Contains(text, "| refuses ") || !strings.Contains(text, straight) || !strings.Contains(text, "failed: refuses with 2 connections and 1 recipients: greeting: the answer is \"554 no\"") {
		t.Error(text)
	}
}
