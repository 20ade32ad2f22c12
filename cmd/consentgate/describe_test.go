package main

import (
	"context"
	"flag"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

// The man page and the shell completions in deploy are made of the command itself, here, by
// go test ./cmd/consentgate -run Deploy -update, and held to it by the same tests.

var update = flag.Bool("update", false, "write the man page and the completions in deploy anew")

// verbDoc is a verb, or the command as a whole, as it is described.
type verbDoc struct {
	path   string // "consentgate consent get"
	help   string // one line
	detail string // paragraphs, those of examples indented
	verbs  []*verbDoc
	flags  []value
	args   []value
}

// value is a flag or an argument.
type value struct {
	name     string // of a flag, without --
	holder   string // what stands for its value, "" where it has none
	help     string
	choices  []string // nil: anything
	kind     string   // "file", "folder" or ""
	optional bool
	many     bool
}

// described is the command as kong knows it.
func described() *verbDoc {
	app := newParser(context.Background(), streams{strings.NewReader(""), io.Discard, io.Discard}).Model
	return describe(app.Node, "")
}

func describe(n *kong.Node, above string) *verbDoc {
	v := &verbDoc{path: strings.TrimSpace(above + " " + n.Name), help: n.Help, detail: n.Detail}
	if above == "" {
		v.help, v.detail, _ = strings.Cut(n.Help, "\n\n")
	}
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			one := value{name: f.Name, help: f.Help}
			if !f.IsBool() {
				one.holder = f.FormatPlaceHolder()
			}
			v.flags = append(v.flags, one.guess(f.Enum))
		}
	}
	for _, p := range n.Positional {
		holder := p.Tag.PlaceHolder
		if holder == "" {
			holder = strings.ToUpper(p.Name)
		}
		v.args = append(v.args, value{holder: holder, help: p.Help, optional: !p.Required, many: p.IsSlice()}.guess(p.Enum))
	}
	for _, child := range n.Children {
		if !child.Hidden {
			v.verbs = append(v.verbs, describe(child, v.path))
		}
	}
	return v
}

// guess fills in what may stand there, from what stands for it.
func (v value) guess(enum string) value {
	switch {
	case enum != "":
		v.choices = strings.Split(strings.TrimPrefix(enum, ","), ",") // the empty one is that nothing was said
	case strings.Contains(v.holder, "|"):
		v.choices = strings.Split(v.holder, "|")
	case strings.Contains(v.holder, "FILE") || strings.HasSuffix(v.holder, ".eml"):
		v.kind = "file"
	case strings.Contains(v.holder, "FOLDER"):
		v.kind = "folder"
	}
	return v
}

// all are v and every verb below it.
func (v *verbDoc) all() []*verbDoc {
	every := []*verbDoc{v}
	for _, below := range v.verbs {
		every = append(every, below.all()...)
	}
	return every
}

// name is the last word of a verb's path.
func (v *verbDoc) name() string { return v.path[strings.LastIndexByte(v.path, ' ')+1:] }

// takesFiles reports whether an argument is a file.
func (v *verbDoc) takesFiles() bool {
	for _, a := range v.args {
		if a.kind == "file" {
			return true
		}
	}
	return false
}

// holdTo fails unless the file in deploy is what the code makes; with -update it is written.
func holdTo(t *testing.T, file, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text, string(kept)); diff != "" {
		t.Errorf("%s is not what the code says; write it anew with -update (-code +file)\n%s", file, diff)
	}
}
