package mailing

import (
	"strconv"
	"strings"

	"github.com/consentgate/consentgate/rewrite"
)

// pair says that a's and b's addresses stand at the same place of the mailing.
type pair struct{ a, b int }

// longest bounds what is aligned with care; the rest is taken in order.
const longest = 2000

// align pairs the addresses of two copies, in order: the most of those that have one key (the longest
// common subsequence), so that a block more in one copy does no harm.
func align(a, b []rewrite.Finding, key func(rewrite.Finding) string) []pair {
	var out []pair
	from := 0
	for from < len(a) && from < len(b) && key(a[from]) == key(b[from]) {
		out = append(out, pair{from, from})
		from++
	}
	tail := 0
	for tail < len(a)-from && tail < len(b)-from && key(a[len(a)-1-tail]) == key(b[len(b)-1-tail]) {
		tail++
	}
	left, right := keys(a[from:len(a)-tail], key), keys(b[from:len(b)-tail], key)
	for _, p := range common(left[:min(len(left), longest)], right[:min(len(right), longest)]) {
		out = append(out, pair{from + p.a, from + p.b})
	}
	for i := tail; i > 0; i-- {
		out = append(out, pair{len(a) - i, len(b) - i})
	}
	return out
}

func keys(all []rewrite.Finding, key func(rewrite.Finding) string) []string {
	out := make([]string, len(all))
	for i, f := range all {
		out[i] = key(f)
	}
	return out
}

// shape is what an address has in common with its counterpart in another copy: where it stands, its
// host without what may be a token, the length of its path, the ending of its file and the names of
// its parameters.
func shape(f rewrite.Finding) string {
	u := split(f.URL)
	var b strings.Builder
	b.WriteString(string(f.Kind) + " " + f.Vector + " " + f.Part + " ")
	host := u.host
	if strings.Count(host, ".") > 1 {
		_, host, _ = strings.Cut(host, ".")
	}
	b.WriteString(host + " " + strconv.Itoa(len(u.segments)))
	if n := len(u.segments); n > 0 {
		last := u.segments[n-1]
		if dot := strings.LastIndexByte(last, '.'); dot >= 0 && len(last)-dot < 6 {
			b.WriteString(last[dot:])
		}
	}
	for _, p := range u.params {
		b.WriteString("&" + p.name)
	}
	return b.String()
}

// common returns the longest common subsequence.
func common(a, b []string) []pair {
	n, m := len(a), len(b)
	if n == 0 || m == 0 {
		return nil
	}
	best := make([]int16, (n+1)*(m+1)) // of a[i:] and b[j:]
	at := func(i, j int) int { return i*(m+1) + j }
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			if a[i] == b[j] {
				best[at(i, j)] = best[at(i+1, j+1)] + 1
			} else {
				best[at(i, j)] = max(best[at(i+1, j)], best[at(i, j+1)])
			}
		}
	}
	var out []pair
	for i, j := 0, 0; i < n && j < m; {
		switch {
		case a[i] == b[j]:
			out = append(out, pair{i, j})
			i, j = i+1, j+1
		case best[at(i+1, j)] >= best[at(i, j+1)]:
			i++
		default:
			j++
		}
	}
	return out
}
