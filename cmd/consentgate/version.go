package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

type versionCmd struct{}

func (versionCmd) Help() string {
	return `Example:

    consentgate version`
}

func (versionCmd) Run(std streams) error {
	version, commit := build()
	_, err := fmt.Fprintf(std.out, "consentgate %s, commit %s, %s\n", version, commit, runtime.Version())
	return err
}

// build returns the version and the commit that this program was made of, as far as the Go
// toolchain noted them.
func build() (version, commit string) {
	version, commit = "unknown", "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, commit
	}
	if info.Main.Version != "" {
		version = info.Main.Version
	}
	changed := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = " with changes"
		}
	}
	return version, commit + changed
}
