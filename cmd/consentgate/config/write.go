package config

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// head is what every file begins with.
const head = `consentgate: every key that there is. A line that begins with # and no space is a key at its default;
take the # away to change it. ${NAME} in a value is taken from the environment, so that no secret has to stand here;
$${ is a ${ that is meant as it stands.
"consentgate check-config" says every mistake with its line.

A running gateway reads the keys marked (SIGHUP) again when it is sent that signal; the others need a restart.`

// Write returns c as the text of a configuration file: every key in the order of Config, with what it does
// above it. Keys at their default are commented out, by a # without a space behind it, and so are blocks of
// which there are none, with example values in them. Values are written as they are: what is meant to be
// taken from the environment stands there as ${NAME}.
func Write(c *Config) string {
	var w writer
	w.comment(head, "")
	w.table("", reflect.ValueOf(*c), reflect.ValueOf(*Default()), false, false)
	return w.String()
}

type writer struct{ strings.Builder }

// table writes the keys of v, a struct. off says that all of it is commented out, reload that all of it is
// read again.
func (w *writer) table(path string, v, defaults reflect.Value, off, reload bool) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := field.Tag.Get("toml")
		at := join(path, key)
		_, marked := field.Tag.Lookup("reload")
		marked = marked || reload
		switch t := field.Type; {
		case t.Kind() == reflect.Struct && t != whenUnsetType:
			w.comment(docs[at], "")
			w.WriteString("[" + at + "]\n")
			w.table(at, v.Field(i), defaults.Field(i), off, marked)
		case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct && t.Elem() != prefixType:
			w.blocks(at, v.Field(i), marked)
		default:
			w.comment(docs[at], note(field, marked))
			line := key + " = " + tomlValue(v.Field(i)) + "\n"
			if off || reflect.DeepEqual(v.Field(i).Interface(), defaults.Field(i).Interface()) {
				line = "#" + line
			}
			w.WriteString(line)
		}
	}
}

// blocks writes each [[path]], or where there is none one of examples, commented out.
func (w *writer) blocks(path string, list reflect.Value, reload bool) {
	none := reflect.New(list.Type().Elem()).Elem()
	w.comment(docs[path], "")
	if list.Len() == 0 {
		w.WriteString("#[[" + path + "]]\n")
		w.table(path, reflect.ValueOf(blocks[path]), none, true, reload)
	}
	for i := range list.Len() {
		if i > 0 {
			w.WriteString("\n")
		}
		w.WriteString("[[" + path + "]]\n")
		w.table(path, list.Index(i), none, false, reload)
	}
}

// note is what the tags say of a key.
func note(field reflect.StructField, reload bool) string {
	var s string
	if least, most := field.Tag.Get("min"), field.Tag.Get("max"); least != "" {
		s = fmt.Sprintf(" From %s to %s.", least, most)
	}
	if reload {
		s += " (SIGHUP)"
	}
	return s
}

// commentWidth is how many bytes a line of a comment has at most, but for a long word.
const commentWidth = 100

// comment writes text, and note behind it, as lines of a comment, after an empty line.
func (w *writer) comment(text, note string) {
	if w.Len() > 0 {
		w.WriteString("\n")
	}
	for i, paragraph := range strings.Split(text+note, "\n\n") {
		if i > 0 {
			w.WriteString("#\n")
		}
		line := "#"
		for word := range strings.FieldsSeq(paragraph) {
			if len(line)+1+len(word) > commentWidth {
				w.WriteString(line + "\n")
				line = "#"
			}
			line += " " + word
		}
		w.WriteString(line + "\n")
	}
}

// Literal returns text as it has to stand in a value so that nothing in it is taken from the environment.
func Literal(text string) string { return strings.ReplaceAll(text, "${", "$${") }

// tomlValue writes a value as TOML, on one line.
func tomlValue(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return tomlString(shortDuration(x))
	case encoding.TextMarshaler:
		if text, err := x.MarshalText(); err == nil { // of a network, which has no error
			return tomlString(string(text))
		}
	}
	var parts []string
	switch v.Kind() {
	case reflect.String:
		return tomlString(v.String())
	case reflect.Slice:
		for i := range v.Len() {
			parts = append(parts, tomlValue(v.Index(i)))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.Struct: // WhenUnset
		for i := range v.NumField() {
			parts = append(parts, v.Type().Field(i).Tag.Get("toml")+" = "+tomlValue(v.Field(i)))
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	case reflect.Map:
		m := v.Interface().(map[string]string)
		if len(m) == 0 {
			return "{}"
		}
		for _, key := range slices.Sorted(maps.Keys(m)) {
			parts = append(parts, tomlString(key)+" = "+tomlString(m[key]))
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	}
	return fmt.Sprint(v.Interface()) // a number or a boolean
}

// tomlString writes a basic string of TOML.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// shortDuration leaves out the zeroes of smaller units: 120h rather than 120h0m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
