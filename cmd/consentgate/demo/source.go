package demo

import "strings"

// line is a line of the original or of the copy.
type line struct {
	Look string // "same", "gone", "new"
	Text string
}

// compare returns the lines of both messages as one list: the longest common subsequence is
// "same", the rest of before "gone", the rest of after "new".
func compare(before, after []byte) []line {
	a := strings.Split(string(before), "\r\n")
	b := strings.Split(string(after), "\r\n")
	// longest[i][j] is the length of the longest common subsequence of a[i:] and b[j:].
	longest := make([][]int32, len(a)+1)
	for i := range longest {
		longest[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	var lines []line
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			lines = append(lines, line{"same", a[i]})
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && longest[i+1][j] >= longest[i][j+1]:
			lines = append(lines, line{"gone", a[i]})
			i++
		default:
			lines = append(lines, line{"new", b[j]})
			j++
		}
	}
	return lines
}
