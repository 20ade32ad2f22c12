package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/consentgate/consentgate/testdata/process"
)

// peer is another program that takes mail and passes it on to the sink, for comparison.
type peer struct {
	smtp      string
	versions  string
	log       string // the file in which it tells of messages
	processes []*process.Process
}

// Names of the peers.
const (
	postfixPlain  = "Postfix"
	postfixSigned = "Postfix + opendkim"
	harakaFilter  = "Haraka + body filter"
)

// peers starts peers when they are first asked for.
type peers struct {
	wanted  bool // else none is measured
	dir     string
	site    *site
	message *message // that each is tried with
	sink    *sink
	running map[string]*peer
	missing map[string]string // why
}

// get returns the peer of that name, nil where this machine cannot run it: that is no error, but noted.
// A peer that runs and does not do what its figures are taken for is an error.
func (ps *peers) get(ctx context.Context, name string) (*peer, error) {
	if p := ps.running[name]; p != nil || ps.missing[name] != "" {
		return p, nil
	}
	if !ps.wanted {
		ps.missing[name] = "it was not wanted (-peers=false)"
		return nil, nil
	}
	dir := filepath.Join(ps.dir, strings.ToLower(strings.Fields(name)[0])+fmt.Sprint(len(ps.running)+len(ps.missing)))
	var p *peer
	var err error
	var does func(text []byte) error
	switch name {
	case postfixPlain:
		p, err = startPostfix(ctx, dir, ps.sink.addr, nil)
		does = ps.message.unchanged
	case postfixSigned:
		p, err = startPostfix(ctx, dir, ps.sink.addr, &signing{ps.site.dkimKey, ps.message.domain})
		does = ps.site.verify
	case harakaFilter:
		p, err = startHaraka(ctx, dir, ps.sink.addr)
		does = harakaFiltered
	}
	if err == nil {
		ps.running[name] = p
	}
	if ctx.Err() != nil {
		return nil, errors.Join(err, context.Cause(ctx))
	}
	if err != nil {
		why := strings.Join(strings.Fields(err.Error()), " ") // with what it said, in one line
		ps.missing[name] = why[:min(len(why), 500)]
		fmt.Fprintf(os.Stderr, "%s is left out: %s\n", name, err)
		return nil, nil
	}
	text, err := copyOf(ctx, p.smtp, ps.message, 1, ps.sink)
	if err == nil {
		err = does(text)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", name, err, process.EndOf(p.log))
	}
	return p, nil
}

// stop ends all.
func (ps *peers) stop() (err error) {
	for _, p := range ps.running {
		err = errors.Join(err, p.stop())
	}
	return err
}

// versions are those of all that ran.
func (ps *peers) versions() string {
	var all []string
	for _, p := range ps.running {
		for v := range strings.SplitSeq(p.versions, ", ") {
			if !slices.Contains(all, v) {
				all = append(all, v)
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// start runs one of the peer's programs.
func (p *peer) start(log, name string, args ...string) (*process.Process, error) {
	one, err := process.Start(log, name, args...)
	if err == nil {
		p.processes = append(p.processes, one)
	}
	return one, err
}

// pids are all its processes.
func (p *peer) pids() (all []int) {
	for _, one := range p.processes {
		all = append(append(all, one.PID()), process.Children(one.PID())...)
	}
	return all
}

// stop ends the peer, what was started last first.
func (p *peer) stop() (err error) {
	for _, one := range slices.Backward(p.processes) {
		err = errors.Join(err, one.Stop())
	}
	return err
}

// havePrograms says which of the programs are not there, and what to install.
func havePrograms(packages string, programs ...string) error {
	var missing []string
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("not in PATH: %s (on Debian: apt-get install %s, and /usr/sbin in PATH)", strings.Join(missing, ", "), packages)
}

// lay makes folders and files in dir, which is made with them. Keys are for root only.
func lay(dir string, folders []string, files map[string]string) error {
	for _, name := range folders {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	for name, text := range files {
		mode := os.FileMode(0o644)
		if strings.HasSuffix(name, ".pem") {
			mode = 0o600
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			return err
		}
	}
	return nil
}
