package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// licencePhrases tells a licence by words that stand in its text and in none of the others.
var licencePhrases = map[string]string{
	"MIT":          "Permission is hereby granted, free of charge, to any person obtaining a copy",
	"BSD-2-Clause": "Redistribution and use in source and binary forms, with or without",
	"BSD-3-Clause": "may be used to endorse or promote products derived from",
	"Apache-2.0":   "Apache License Version 2.0",
}

// TestModules holds the modules that are linked into the program, on all systems it is built for, against
// testdata/modules.txt, and their licences against the text that lies beside their code.
func TestModules(t *testing.T) {
	linked := map[string]string{} // path to folder
	for _, system := range []string{"linux", "darwin", "windows", "linux with cgo"} {
		name, cgo := strings.CutSuffix(system, " with cgo")
		list := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Dir}}{{end}}{{end}}", ".")
		list.Env = append(os.Environ(), "GOOS="+name, "CGO_ENABLED=0")
		if cgo {
			list.Env = append(list.Env, "CGO_ENABLED=1")
		}
		list.Stderr = os.Stderr
		out, err := list.Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		for line := range strings.Lines(string(out)) {
			if path, dir, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
				linked[path] = dir
			}
		}
	}
	if len(linked) < 5 {
		t.Fatalf("go list names only %d modules", len(linked))
	}
	text, err := os.ReadFile("testdata/modules.txt")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 3 {
			t.Fatalf("modules.txt: %q is not: path, licence, what asks for it", line)
		}
		path, licence := fields[0], fields[1]
		named[path] = true
		dir, ok := linked[path]
		if !ok {
			t.Errorf("%s is in modules.txt, but nothing of it is in the program any more", path)
			continue
		}
		if got := licenceOf(t, dir); got != licence {
			t.Errorf("%s: modules.txt says %s, the text beside its code is %q", path, licence, got)
		}
	}
	for path := range linked {
		if !named[path] {
			t.Errorf("%s came into the program and is not in testdata/modules.txt", path)
		}
	}
}

// licenceOf names the licence whose text lies in a module's folder; "" where it is none that is known.
func licenceOf(t *testing.T, dir string) string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"LICENSE*", "COPYING*", "LICENCE*"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return ""
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	flat := string(bytes.Join(bytes.Fields(text), []byte(" ")))
	for _, licence := range []string{"BSD-3-Clause", "BSD-2-Clause", "MIT", "Apache-2.0"} {
		// BSD-3-Clause is BSD-2-Clause and one clause more, so it is asked for first.
		if strings.Contains(flat, licencePhrases[licence]) {
			return licence
		}
	}
	return ""
}

var majorVersion = regexp.MustCompile(`^v\d+$`)

// TestReasons: what go.mod asks for itself stands, with its reason, in the README's table of dependencies.
func TestReasons(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(readme), "| dependency | why |")
	if !ok {
		t.Fatal("the README has no table of dependencies")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	list := exec.Command("go", "list", "-m", "-f", "{{if not (or .Main .Indirect)}}{{.Path}}{{end}}", "all")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	paths := strings.Fields(string(out))
	if len(paths) < 5 {
		t.Fatalf("go list names only %q", paths)
	}
	words := strings.FieldsFunc(table, func(r rune) bool { return strings.ContainsRune(" ,:|()\n", r) })
	for _, path := range paths {
		// The table leaves out the host, the owner where it stands before it, and the major version.
		parts := strings.Split(strings.TrimPrefix(path, "pgregory.net/"), "/")
		if majorVersion.MatchString(parts[len(parts)-1]) {
			parts = parts[:len(parts)-1]
		}
		name := parts[len(parts)-1]
		if !slices.ContainsFunc(words, func(word string) bool { return word == name || strings.HasSuffix(word, "/"+name) }) {
			t.Errorf("%s has no reason in the README's table of dependencies", path)
		}
	}
}
