package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/consentgate/consentgate/consent"
)

// decoder moves a parsed TOML document into a Config and collects what is wrong on the way.
// It goes on after a mistake, which the TOML library's own decoder does not.
type decoder struct {
	file      string
	lines     map[string]int
	lookupEnv func(string) (string, bool)
	schema    []string          // every key that there is, dotted, without indexes
	written   map[string]string // a path's text as it stands in the file; absent where it must not be shown
	wrong     map[string]bool   // paths that have a mistake already
	mistakes  Mistakes
}

// bad records a mistake, the first one of each path.
func (d *decoder) bad(path, wrong, right string) {
	if d.wrong[path] {
		return
	}
	d.wrong[path] = true
	d.mistakes = append(d.mistakes, Mistake{File: d.file, Line: d.line(path), Key: withoutIndexes(path), Wrong: wrong, Right: right})
}

// line is the line of a path, or of what it stands in where the path itself is not in the file.
func (d *decoder) line(path string) int {
	for path != "" {
		if n, ok := d.lines[path]; ok {
			return n
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 1
}

// is says that the value of path is wrong, and shows it as it stands in the file unless it
// may hold a secret: `"abc" is …`.
func (d *decoder) is(path, wrong, right string) {
	shown := "this"
	if text, ok := d.written[path]; ok {
		shown = strconv.Quote(text)
	}
	d.bad(path, shown+" "+wrong, right)
}

// table fills the fields of v from m.
func (d *decoder) table(path string, m map[string]any, v reflect.Value) {
	known := map[string]bool{}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := field.Tag.Get("toml")
		known[key] = true
		if raw, ok := m[key]; ok {
			d.field(join(path, key), raw, v.Field(i), field.Tag)
		} else if field.Type.Kind() == reflect.Struct {
			d.table(join(path, key), nil, v.Field(i)) // for its needed keys
		}
		d.needed(join(path, key), v.Field(i), field.Tag)
	}
	for key := range m {
		if !known[key] {
			d.unknown(path, key, known)
		}
	}
}

// field fills one field, and checks what its tags say.
func (d *decoder) field(path string, raw any, v reflect.Value, tag reflect.StructTag) {
	before := reflect.ValueOf(v.Interface())
	count := len(d.mistakes)
	_, secret := tag.Lookup("secret")
	d.value(path, raw, v, secret)
	if len(d.mistakes) > count {
		return
	}
	if list := tag.Get("oneof"); list != "" && v.String() != before.String() && !slices.Contains(strings.Fields(list), v.String()) {
		right := strings.Join(strings.Fields(list), ", ")
		if guess := nearest(v.String(), strings.Fields(list)); guess != "" {
			right += fmt.Sprintf("; did you mean %q?", guess)
		}
		d.is(path, "is not a value of this key", "one of "+right)
		return
	}
	d.bounds(path, v, tag)
	if also, later := tag.Lookup("later"); later && !d.wrong[path] && !reflect.DeepEqual(v.Interface(), before.Interface()) {
		if empty(v) || also != "" && fmt.Sprint(v.Interface()) == also {
			return
		}
		where := path
		if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct {
			where = path + "[0]"
		}
		d.bad(where, "not yet in this version", "remove it, or leave it at its default")
	}
}

// needed reports a needed key that is missing or empty.
func (d *decoder) needed(path string, v reflect.Value, tag reflect.StructTag) {
	example := tag.Get("needed")
	if example == "" || d.wrong[path] || !v.IsZero() && !empty(v) {
		return
	}
	if v.Kind() == reflect.Slice && d.anyWrong(path+"[") {
		return
	}
	right := "add " + example
	if table, _, ok := cutLast(path); ok && d.lines[table] == 0 {
		right = "add [" + withoutIndexes(table) + "] with " + example
	}
	if d.lines[path] > 0 {
		d.bad(path, "is needed and empty", example)
		return
	}
	d.bad(path, "is needed and missing", right)
}

func (d *decoder) anyWrong(prefix string) bool {
	for path := range d.wrong {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// empty reports whether v is a list or a table of names without elements.
func empty(v reflect.Value) bool {
	return (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0
}

// bounds checks the tags min and max.
func (d *decoder) bounds(path string, v reflect.Value, tag reflect.StructTag) {
	least, most := tag.Get("min"), tag.Get("max")
	if least == "" {
		return
	}
	if v.Type() == durationType {
		lo, _ := time.ParseDuration(least)
		hi, _ := time.ParseDuration(most)
		if n := time.Duration(v.Int()); n < lo || n > hi {
			d.is(path, "is out of range", fmt.Sprintf("%s to %s", least, most))
		}
		return
	}
	lo, _ := strconv.ParseInt(least, 10, 64)
	hi, _ := strconv.ParseInt(most, 10, 64)
	if n := v.Int(); n < lo || n > hi {
		d.bad(path, fmt.Sprintf("%d is out of range", n), fmt.Sprintf("%s to %s", least, most))
	}
}

// unknown reports a key that does not exist, with what may have been meant.
func (d *decoder) unknown(table, key string, known map[string]bool) {
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	right := "the keys of this table: " + strings.Join(names, ", ")
	if table == "" {
		right = "remove it"
	}
	if guess := nearest(key, names); guess != "" {
		right = "did you mean " + guess + "?"
	} else {
		for _, path := range d.schema {
			if home, last, ok := cutLast(path); ok && last == key {
				right = "it belongs into [" + home + "]"
				break
			}
		}
	}
	d.bad(join(table, key), "unknown key", right)
}

// value converts raw, what the TOML library read, to the type of v and stores it there.
func (d *decoder) value(path string, raw any, v reflect.Value, secret bool) {
	if list, ok := raw.([]map[string]any); ok { // [[table]]; an inline array is []any
		all := make([]any, len(list))
		for i := range list {
			all[i] = list[i]
		}
		raw = all
	}
	if text, ok := raw.(string); ok {
		if !secret {
			d.written[path] = text
		}
		expanded, ok := d.expand(path, text)
		if !ok {
			return
		}
		d.fromText(path, expanded, expanded != text, v)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if m, ok := raw.(map[string]any); ok && v.Type() != prefixType {
			d.table(path, m, v)
			return
		}
	case reflect.Map:
		if m, ok := raw.(map[string]any); ok {
			filled := map[string]string{}
			for key, one := range m {
				text := reflect.New(v.Type().Elem()).Elem()
				d.value(join(path, key), one, text, secret)
				filled[key] = text.String()
			}
			v.Set(reflect.ValueOf(filled))
			return
		}
	case reflect.Slice:
		if list, ok := raw.([]any); ok {
			filled := reflect.MakeSlice(v.Type(), len(list), len(list))
			for i, one := range list {
				d.value(fmt.Sprintf("%s[%d]", path, i), one, filled.Index(i), secret)
			}
			v.Set(filled)
			return
		}
	case reflect.Bool:
		if b, ok := raw.(bool); ok {
			v.SetBool(b)
			return
		}
	case reflect.Int, reflect.Int64:
		if n, ok := raw.(int64); ok && v.Type() != durationType {
			v.SetInt(n)
			return
		}
	}
	d.bad(path, "is "+tomlKind(raw), "write "+wanted(v.Type()))
}

// fromText converts a string of the file. A string that came from the environment may also
// fill a number or a boolean, since a variable has no other type.
func (d *decoder) fromText(path, text string, fromEnv bool, v reflect.Value) {
	switch t := v.Type(); {
	case t == durationType:
		n, err := time.ParseDuration(text)
		if err != nil {
			d.is(path, "is not a duration", `a number with its unit, such as "30s", "5m" or "120h"`)
			return
		}
		v.SetInt(int64(n))
	case t == prefixType:
		d.prefix(path, text, v)
	case t == scopeType:
		scope, err := consent.ParseScope(text)
		if err != nil || scope == consent.AnyScope {
			d.is(path, "is not a scope", "1 to 128 letters, digits, dots, hyphens and underscores")
			return
		}
		v.SetString(string(scope))
	case t == classType:
		class, err := consent.ParseClass(text)
		if err != nil {
			d.is(path, "is not a class", `"marketing" or "transactional"`)
			return
		}
		v.SetString(string(class))
	case t == whenUnsetType:
		for i := range v.NumField() {
			field := t.Field(i)
			if !slices.Contains(strings.Fields(field.Tag.Get("oneof")), text) {
				d.is(path, "is not a value of this key", `"denied", "granted", or { open = "denied", click = "denied" }`)
				return
			}
			v.Field(i).SetString(text)
		}
	case t.Kind() == reflect.String:
		v.SetString(text)
	case fromEnv && t.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			d.is(path, "is not true or false once the variable is put in", "true or false")
		}
		v.SetBool(b)
	case fromEnv && (t.Kind() == reflect.Int || t.Kind() == reflect.Int64):
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			d.is(path, "is not a whole number once the variable is put in", "digits only")
		}
		v.SetInt(n)
	default:
		d.bad(path, "is text", "write "+wanted(t))
	}
}

func (d *decoder) prefix(path, text string, v reflect.Value) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		right := `an address and the length of its prefix, such as "10.0.0.0/8"`
		if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
			right = strconv.Quote(netip.PrefixFrom(a, a.BitLen()).String())
		}
		d.is(path, "is not a network", right)
		return
	}
	if p.Masked() != p {
		d.is(path, "has bits set behind its prefix", strconv.Quote(p.Masked().String())+" for the network, or "+strconv.Quote(netip.PrefixFrom(p.Addr(), p.Addr().BitLen()).String())+" for the one address")
		return
	}
	v.Set(reflect.ValueOf(p))
}

var variable = regexp.MustCompile(`\$\$\{|\$\{([^}]*)(\}?)`)

// expand puts the environment in where the text says ${NAME}. What is put in is not looked at
// again.
func (d *decoder) expand(path, text string) (string, bool) {
	ok := true
	out := variable.ReplaceAllStringFunc(text, func(found string) string {
		if found == "$${" {
			return "${"
		}
		name, closed := strings.CutSuffix(found[2:], "}")
		if !closed || !isVariable(name) {
			d.bad(path, "holds ${ that does not begin a variable", "${NAME} with a name of letters, digits and underscores, or $${ for a ${ that is meant as it stands")
			ok = false
			return ""
		}
		value, set := d.lookupEnv(name)
		if !set {
			d.bad(path, "the environment variable "+name+" is not set", "set it for this program, or write the value into the file")
			ok = false
		}
		return value
	})
	return out, ok
}

func isVariable(name string) bool {
	for i, r := range name {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}

var (
	durationType  = reflect.TypeFor[time.Duration]()
	prefixType    = reflect.TypeFor[netip.Prefix]()
	scopeType     = reflect.TypeFor[consent.Scope]()
	classType     = reflect.TypeFor[consent.Class]()
	whenUnsetType = reflect.TypeFor[WhenUnset]()
)

// schemaOf lists the keys of a struct, dotted, tables of arrays included.
func schemaOf(path string, t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		field := t.Field(i)
		key := join(path, field.Tag.Get("toml"))
		keys = append(keys, key)
		inner := field.Type
		if inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && inner != prefixType {
			keys = append(keys, schemaOf(key, inner)...)
		}
	}
	return keys
}

// tomlKind names the type of a value of the TOML library in plain words.
func tomlKind(raw any) string {
	switch raw.(type) {
	case int64:
		return "a whole number"
	case float64:
		return "a number with a fraction"
	case bool:
		return "true or false"
	case time.Time:
		return "a date"
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "of another type"
}

// wanted says how a value of that type is written.
func wanted(t reflect.Type) string {
	switch {
	case t == durationType:
		return `a duration with its unit between quotes, such as "30s"`
	case t == whenUnsetType:
		return `"denied", "granted", or { open = "denied", click = "denied" }`
	case t == prefixType, t.Kind() == reflect.String:
		return "text between quotes"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct && t.Elem() != prefixType:
		return "a table for each, under a line [[…]]"
	case t.Kind() == reflect.Slice:
		return `a list, such as ["one", "two"]`
	case t.Kind() == reflect.Bool:
		return "true or false, without quotes"
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		return "a whole number, without quotes"
	}
	return "a table"
}

// cutLast splits a dotted path at its last dot.
func cutLast(path string) (table, key string, ok bool) {
	i := strings.LastIndexByte(path, '.')
	if i < 0 {
		return "", path, false
	}
	return path[:i], path[i+1:], true
}

var index = regexp.MustCompile(`\[\d+\]`)

func withoutIndexes(path string) string { return index.ReplaceAllString(path, "") }
