package logbook

import (
	"regexp"
	"strings"
)

// codes begin an answer: that of SMTP or HTTP, and the enhanced one (RFC 3463).
var codes = regexp.MustCompile(`^[2-5]\d\d(?: [245]\.\d{1,3}\.\d{1,3})?(?:[ -]|$)`)

// causes are words that errors hold, the more telling ones first.
var causes = []string{"has lost its records", "belongs to another key file", "connection refused", "connection reset", "broken pipe",
	"no route to host", "network is unreachable", "no such host", "no space left on device", "read-only file system", "input/output error",
	"permission denied", "no such file or directory", "too many open files", "certificate", "timeout", "deadline exceeded", "EOF", "does not answer"}

// kind says of what kind an error or an answer is, in none of its own words.
func kind(text string) string {
	if code := codes.FindString(text); code != "" {
		return strings.TrimRight(code, " -")
	}
	for _, c := range causes {
		if strings.Contains(text, c) {
			return c
		}
	}
	return ""
}

// own is the part of a message that is fixed: HTTP's servers put into theirs who asked.
func own(message string) string {
	if !strings.HasPrefix(message, "http") {
		return Mask(message)
	}
	end := len(message)
	for _, s := range []string{" from ", " client ", " serving ", ";"} {
		if i := strings.Index(message, s); i >= 0 {
			end = min(end, i)
		}
	}
	if start := strings.Index(message, ": ") + 2; start < end {
		if i := strings.Index(message[start:end], ": "); i >= 0 {
			end = start + i
		}
	}
	return Mask(message[:end])
}
