package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Mistake is one thing that is wrong in a configuration file.
type Mistake struct {
	File  string
	Line  int    // from 1; where a key is missing, the line of its table, or 1
	Key   string // dotted, "" for a mistake of syntax
	Wrong string // what is wrong
	Right string // what would be right, "" if Wrong says it
}

// Error is one line: FILE:LINE: key: what is wrong; what would be right.
func (m Mistake) Error() string {
	s := fmt.Sprintf("%s:%d: ", m.File, m.Line)
	if m.Key != "" {
		s += m.Key + ": "
	}
	s += m.Wrong
	if m.Right != "" {
		s += "; " + m.Right
	}
	// A key may hold any character between quotes; the error stays on its line.
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// Mistakes is every mistake of a file, in the order of its lines.
type Mistakes []Mistake

// Error is one line for each mistake.
func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i := range m {
		lines[i] = m[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Places are where Find looks, in this order.
var Places = []string{"consentgate.toml", "/etc/consentgate/consentgate.toml"}

// Find returns the path of the configuration file: the first of Places that exists. One that may not be looked for
// is passed over, since runuser and sudo leave the gateway's user in the home of root, which is closed to it.
func Find() (string, error) {
	var closed error
	for _, path := range Places {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if errors.Is(err, fs.ErrPermission) {
			closed = err
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("configuration file: %w", err)
		}
	}
	if closed != nil {
		return "", fmt.Errorf("no configuration file: %w; name it with --config FILE", closed)
	}
	return "", fmt.Errorf("no configuration file: neither %s is there; make one with \"consentgate init\", or name it with --config FILE", strings.Join(Places, " nor "))
}

// Load reads and checks the file at path. ${NAME} in a value is taken from lookupEnv, which is
// os.LookupEnv but in tests. What is wrong in the file comes back as Mistakes, all of them; an
// error of another type says that the file could not be read. The value of a secret stands in
// no error.
func Load(path string, lookupEnv func(string) (string, bool)) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	return Parse(path, string(text), lookupEnv)
}

// Parse is Load of a text that is not in a file yet; the mistakes name path.
func Parse(path, text string, lookupEnv func(string) (string, bool)) (*Config, error) {
	var document map[string]any
	if _, err := toml.Decode(text, &document); err != nil {
		return nil, syntax(path, err)
	}
	c := Default()
	d := &decoder{
		file:      path,
		lines:     locate(text),
		lookupEnv: lookupEnv,
		schema:    schemaOf("", reflect.TypeFor[Config]()),
		written:   map[string]string{},
		wrong:     map[string]bool{},
	}
	d.table("", document, reflect.ValueOf(c).Elem())
	c.check(d)
	if len(d.mistakes) > 0 {
		slices.SortStableFunc(d.mistakes, func(a, b Mistake) int {
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return strings.Compare(a.Key, b.Key)
		})
		return nil, d.mistakes
	}
	return c, nil
}

// syntax turns an error of the TOML library into a Mistake. Some of the library's messages
// quote what stands in the file, which may be a password without quotes: those are replaced.
func syntax(path string, err error) error {
	var parse toml.ParseError
	if !errors.As(err, &parse) {
		return fmt.Errorf("configuration file %s: not TOML", path)
	}
	// The library has line 0 for a string that the end of the file cuts off behind a backslash.
	m := Mistake{File: path, Line: max(parse.Position.Line, 1), Key: parse.LastKey, Wrong: parse.Message}
	switch {
	case strings.HasPrefix(parse.Message, "expected value but found"):
		m.Wrong, m.Right = "not a value", `text stands between quotes: "…"`
	case strings.Contains(parse.Message, "to end with a newline"):
		m.Wrong, m.Right = "more follows the value on this line", `one key a line, and text between quotes: "…"`
	}
	return Mistakes{m}
}
