package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// job is one message to send to one recipient.
type job struct {
	ID   string `json:"id"`
	From string `json:"from"`
	To   string `json:"to"`
	File string `json:"file"`
}

// answer is what the gateway said to a message.
type answer struct {
	ID   string `json:"id"`
	Code int    `json:"code"`
	Text string `json:"text"`
}

// sendPython sends by smtplib, over a few connections.
func sendPython(t *testing.T, gateway string, jobs []job) []answer {
	t.Helper()
	host, port, err := net.SplitHostPort(gateway)
	if err != nil {
		t.Fatal(err)
	}
	var answers []answer
	for line := range python(t, jobs, "send.py", host, port, "4") {
		var a answer
		if err := json.Unmarshal(line, &a); err != nil {
			t.Fatalf("send.py: %v: %s", err, line)
		}
		answers = append(answers, a)
	}
	if len(answers) != len(jobs) {
		t.Fatalf("send.py: %d answers to %d messages", len(answers), len(jobs))
	}
	return answers
}

// python runs a script with jobs on standard input, a line of JSON each, and yields the lines
// that it prints.
func python[J any](t *testing.T, jobs []J, script string, args ...string) func(func([]byte) bool) {
	t.Helper()
	var in, out, stderr bytes.Buffer
	enc := json.NewEncoder(&in)
	for _, j := range jobs {
		if err := enc.Encode(j); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(needs(t, "python3"), append([]string{script}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, tail(stderr.String(), 20))
	}
	return func(yield func([]byte) bool) {
		for line := range bytes.Lines(out.Bytes()) {
			if !yield(line) {
				return
			}
		}
	}
}

// replyLine is the last line of one of the server's answers in what swaks prints; "<**" marks one
// that it did not hope for.
var replyLine = regexp.MustCompile(`(?m)^<(?:-|\*\*) +(\d{3})(?: (.*))?$`)

// sendSwaks sends by swaks, a process each, some at a time. The files hold what is to go over the
// wire, dots doubled: left to itself, swaks would mend the text.
func sendSwaks(t *testing.T, gateway string, jobs []job) []answer {
	t.Helper()
	swaks := needs(t, "swaks")
	answers := make([]answer, len(jobs))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i, j := range jobs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			from := j.From
			if from == "" {
				from = "<>"
			}
			out, err := exec.Command(swaks, "--server", gateway, "--ehlo", "shop.example.net", "--from", from, "--to", j.To,
				"--no-data-fixup", "--data", "@"+j.File, "--timeout", "20s",
				"--hide-send", "--hide-informational").CombinedOutput()
			answers[i] = swaksAnswer(j.ID, string(out), err)
		})
	}
	wg.Wait()
	return answers
}

// swaksAnswer finds the answer to the message, or the first "no" before it.
func swaksAnswer(id, out string, err error) answer {
	a := answer{ID: id, Text: fmt.Sprintf("swaks: %v: %s", err, tail(out, 5))}
	for _, m := range replyLine.FindAllStringSubmatch(out, -1) {
		code, _ := strconv.Atoi(m[1]) // three digits
		switch {
		case code == 221: // to QUIT
		case a.Code >= 400: // the first "no" stands
		default:
			a.Code, a.Text = code, strings.TrimSpace(m[2])
		}
	}
	if a.Code == 354 {
		a.Code, a.Text = 0, "no answer to the message"
	}
	return a
}
