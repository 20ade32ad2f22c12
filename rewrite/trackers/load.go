package trackers

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// ruleText is a [[rule]] as it is written. See the top of rules.toml.
type ruleText struct {
	Name        string   `toml:"name"`
	Provider    string   `toml:"provider"`
	Kind        Kind     `toml:"kind"`
	Hosts       []string `toml:"hosts"`
	Path        string   `toml:"path"`
	Query       []string `toml:"query"`
	Decode      string   `toml:"decode"`
	Example     string   `toml:"example"`
	Destination string   `toml:"destination"`
}

type identifierText struct {
	Name     string `toml:"name"`
	Provider string `toml:"provider"`
}

// Load reads and compiles a rules file (TOML; its form stands at the top of rules.toml). The
// error holds every mistake, one a line, each with the place in the file: a wrong value, an
// unknown key, a rule so wide that it would hit ordinary links, an example that its own rule
// does not recognise.
func Load(file []byte) (*Rules, error) {
	var text struct {
		OwnPages   []string         `toml:"own_pages"`
		Signatures []string         `toml:"signatures"`
		OpenWords  []string         `toml:"open_words"`
		PixelFiles []string         `toml:"pixel_files"`
		Rules      []ruleText       `toml:"rule"`
		Identifier []identifierText `toml:"identifier"`
	}
	md, err := toml.Decode(string(file), &text)
	if err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) {
			return nil, fmt.Errorf("line %d: %s", pe.Position.Line, pe.Message)
		}
		return nil, err
	}
	errs := unknownKeys(file, md)

	lines := tableLines(file, "[[rule]]")
	names := map[string]bool{}
	r := &Rules{ownPages: text.OwnPages, signatures: newNameSet(text.Signatures), openWords: newWordSet(text.OpenWords), pixelFiles: newWordSet(text.PixelFiles)}
	for i, t := range text.Rules {
		rule, err := t.compile()
		if err == nil && names[t.Name] {
			err = errors.New("the name stands twice")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%srule %q: %w", lines.at(i), t.Name, err))
			continue
		}
		names[t.Name] = true
		r.rules = append(r.rules, rule)
	}
	lines = tableLines(file, "[[identifier]]")
	var ids []string
	for i, t := range text.Identifier {
		if err := checkName(t.Name); err != nil {
			errs = append(errs, fmt.Errorf("%sidentifier %q: %w", lines.at(i), t.Name, err))
		}
		ids = append(ids, t.Name)
	}
	for _, n := range text.Signatures {
		if err := checkName(n); err != nil {
			errs = append(errs, fmt.Errorf("signatures: %q: %w", n, err))
		}
	}
	for i, w := range text.OwnPages {
		if len(w) < 4 {
			errs = append(errs, fmt.Errorf("own_pages: %q is too short to mean something", w))
		}
		r.ownPages[i] = strings.ToLower(w)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	r.identifiers = newNameSet(ids)
	r.index = buildIndex(r.rules)
	return r, nil
}

func newWordSet(words []string) map[string]bool {
	s := make(map[string]bool, len(words))
	for _, w := range words {
		s[strings.ToLower(w)] = true
	}
	return s
}

// checkName says what is wrong with the name of a parameter.
func checkName(n string) error {
	plain := strings.TrimSuffix(n, "*")
	switch {
	case plain == "":
		return errors.New("no name")
	case len(n) > longestName:
		return fmt.Errorf("longer than %d", longestName)
	case strings.ContainsAny(plain, "*&=#% "):
		return errors.New("a parameter's name, perhaps with one * at the end")
	}
	return nil
}

func (t *ruleText) compile() (*Rule, error) {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	r := &Rule{Name: t.Name, Provider: t.Provider, Kind: t.Kind, vanity: len(t.Hosts) == 0}
	if t.Name == "" || t.Provider == "" || t.Example == "" {
		fail("name, provider and example are needed")
	}
	if !slices.Contains([]Kind{Open, Click, Spacer, Gateway}, t.Kind) {
		fail("kind %q: it is open, click, spacer or gateway", t.Kind)
	}
	for _, h := range t.Hosts {
		g, err := parseHostGlob(h)
		note(err)
		r.hosts = append(r.hosts, g)
		r.vanity = r.vanity || g.any
	}
	var err error
	if t.Path == "" {
		t.Path = "/**"
	}
	r.path, err = parsePath(t.Path)
	note(err)
	for _, q := range t.Query {
		name, value, valued := strings.Cut(q, "=")
		var c condition
		c.name, err = parsePattern(name)
		note(err)
		c.literal, _ = c.name.literal()
		if valued {
			c.value, err = parsePattern(value)
			note(err)
		}
		if len(c.name) == 0 {
			fail("query %q: a name, or name=value", q)
		}
		r.query = append(r.query, c)
	}
	if r.vanity && !r.specific() {
		fail("too wide for hosts of any owner: it needs a fixed text in the path, two parameters, or tokens of 14 characters")
	}
	if t.Decode != "" {
		if t.Kind == Open || t.Kind == Spacer {
			fail("kind %s has nothing to decode", t.Kind)
		}
		r.decode, err = parseDecoder(t.Decode)
		note(err)
	} else if t.Kind == Gateway {
		fail("a gateway needs decode: one that cannot be read is left alone anyway")
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return r, t.checkExample(r)
}

// specific says whether a rule that holds on hosts of any owner asks for more than a shape
// that ordinary addresses have: a fixed text in the path, two parameters, or long tokens.
func (r *Rule) specific() bool {
	const long = 14
	n := 0
	count := func(p pattern) {
		for _, o := range p {
			if o.class != nil {
				n += o.min
			}
		}
	}
	for _, p := range r.path.segs {
		for _, o := range p {
			if o.lit != "" {
				return true
			}
		}
		count(p)
	}
	for _, c := range r.query {
		count(c.value)
	}
	return n >= long || len(r.query) > 1
}

// checkExample runs the rule on its own example.
func (t *ruleText) checkExample(r *Rule) error {
	a, ok := split(t.Example)
	if !ok {
		return fmt.Errorf("example %q is no http or https address", t.Example)
	}
	raw, fires := r.matches(&a)
	if !fires {
		return errors.New("it does not recognise its own example")
	}
	if r.decode == nil {
		if t.Destination != "" {
			return errors.New("destination without decode")
		}
		return nil
	}
	if got, _ := accept(raw); got == "" || got != t.Destination {
		return fmt.Errorf("its example leads to %q, not to %q", got, t.Destination)
	}
	return nil
}

// unknownKeys turns keys that nothing reads into errors, each with its line.
func unknownKeys(file []byte, md toml.MetaData) []error {
	unknown := map[string]bool{}
	for _, key := range md.Undecoded() {
		unknown[key.String()] = true
	}
	if len(unknown) == 0 {
		return nil
	}
	var errs []error
	table := ""
	for i, line := range strings.Split(string(file), "\n") {
		line = strings.TrimSpace(line)
		key, _, _ := strings.Cut(line, "=")
		key = strings.Trim(key, " \t\"'")
		if strings.HasPrefix(line, "[") {
			table, _, _ = strings.Cut(strings.Trim(line, "[ \t"), "]")
			key = table
		} else if table != "" {
			key = table + "." + key
		}
		if unknown[key] {
			errs = append(errs, fmt.Errorf("line %d: there is no key %q", i+1, key))
		}
	}
	if errs == nil { // written in a way that the search above does not see
		for key := range unknown {
			errs = append(errs, fmt.Errorf("there is no key %q", key))
		}
	}
	return errs
}

// tableLines finds the lines on which the tables of an array begin.
func tableLines(file []byte, header string) lineNumbers {
	var at lineNumbers
	for i, line := range strings.Split(string(file), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), header) {
			at = append(at, i+1)
		}
	}
	return at
}

type lineNumbers []int

// at names the line of the i-th table, where the file is written one table after another.
func (l lineNumbers) at(i int) string {
	if i >= len(l) {
		return ""
	}
	return fmt.Sprintf("line %d: ", l[i])
}
