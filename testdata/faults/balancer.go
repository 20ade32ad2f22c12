package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const proxyConfig = "deploy/haproxy.cfg"

// balancer is the running HAProxy.
type balancer struct {
	v2, v1, page string
	socket       string // where it takes commands
	cmd          *exec.Cmd
	done         chan struct{}
}

func (b *balancer) close() {
	b.cmd.Process.Kill()
	<-b.done
}

// Names in the example.
var (
	backends = []string{"gateways", "gateways-v1", "pages"}
	servers  = [manyGateways]string{"one", "two", "three"}
)

var (
	bindLine   = regexp.MustCompile(`(?m)^    bind .*$`)
	serverLine = regexp.MustCompile(`(?m)^    server (\w+) 10\.0\.0\.1\d:(2525|8080)$`)
	checkPort  = regexp.MustCompile(`check port 8081 `)
	socketLine = regexp.MustCompile(`(?m)^    stats socket \S+ `)
	logLine    = regexp.MustCompile(`(?m)^    log /dev/log .*\n`)
	rightsLine = regexp.MustCompile(`(?m)^    (chroot|user|group) .*\n`)
)

// newBalancer runs HAProxy with the example, its addresses replaced and the certificate left out.
func newBalancer(ctx context.Context, dir, example string, gateways []*gateway) (*balancer, error) {
	text, err := os.ReadFile(example)
	if err != nil {
		return nil, fmt.Errorf("%w: run this in the project's folder", err)
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	b := &balancer{v2: ports[0], v1: ports[1], page: ports[2], socket: filepath.Join(dir, "admin.sock"), done: make(chan struct{})}
	if text, err = ownAddresses(text, b.socket, ports, gateways); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "haproxy.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	b.cmd = exec.Command(haproxy(), "-db", "-f", file)
	b.cmd.Stdout, b.cmd.Stderr = log, log
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { b.cmd.Wait(); close(b.done) }()
	_, err = until(ctx, "HAProxy", func(context.Context) error {
		for _, addr := range []string{b.v2, b.v1} {
			c, err := dial(addr, allowed)
			if err != nil {
				return err
			}
			c.Close()
		}
		return nil
	})
	if err != nil {
		b.close()
	}
	return b, err
}

// ownAddresses puts this run's addresses in the places of those in the example, and leaves out its certificate, the
// machine's log, and the change to another user where there is no right to that.
func ownAddresses(text []byte, socket string, ports []string, gateways []*gateway) ([]byte, error) {
	n := 0
	text = bindLine.ReplaceAllFunc(text, func([]byte) []byte {
		n++
		return []byte("    bind " + ports[(n-1)%len(ports)])
	})
	if n != len(ports) {
		return nil, fmt.Errorf("%s has %d bind lines, not %d", proxyConfig, n, len(ports))
	}
	found := 0
	text = serverLine.ReplaceAllFunc(text, func(line []byte) []byte {
		g := gateways[found%len(gateways)]
		found++
		addr := g.smtp
		if bytes.HasSuffix(line, []byte(":8080")) {
			addr = g.page
		}
		_, admin, _ := net.SplitHostPort(strings.TrimPrefix(g.api, "http://"))
		return []byte(fmt.Sprintf("    server %s %s port %s", serverLine.FindSubmatch(line)[1], addr, admin))
	})
	if found != 3*len(gateways) {
		return nil, fmt.Errorf("%s has %d server lines, not %d", proxyConfig, found, 3*len(gateways))
	}
	text = checkPort.ReplaceAll(text, []byte("check "))
	text = socketLine.ReplaceAll(text, []byte("    stats socket "+socket+" "))
	text = logLine.ReplaceAll(text, nil)
	if os.Geteuid() != 0 {
		text = rightsLine.ReplaceAll(text, nil)
	}
	// The check that speaks SMTP goes where the mail goes.
	head, rest, _ := bytes.Cut(text, []byte("backend gateways-v1"))
	v1, pages, _ := bytes.Cut(rest, []byte("frontend page"))
	v1 = regexp.MustCompile(` port \d+\n`).ReplaceAll(v1, []byte("\n"))
	return slices.Concat(head, []byte("backend gateways-v1"), v1, []byte("frontend page"), pages), nil
}

// haproxy is where the program is: Debian has it where a user's PATH does not lead.
func haproxy() string {
	if path, err := exec.LookPath("haproxy"); err == nil {
		return path
	}
	return "/usr/sbin/haproxy"
}

// ask gives HAProxy a command, as an operator does, and returns what it says.
func (b *balancer) ask(command string) (string, error) {
	c, err := net.DialTimeout("unix", b.socket, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, command+"\n"); err != nil {
		return "", err
	}
	text, err := io.ReadAll(c)
	return string(text), err
}

// state is what HAProxy thinks and counts of a server, or of a backend: a row of its own table.
type state map[string]string

func (s state) number(column string) int {
	n, _ := strconv.Atoi(s[column])
	return n
}

func (s state) up() bool { return strings.HasPrefix(s["status"], "UP") }

// states are those of all, by "backend/server".
func (b *balancer) states() (map[string]state, error) {
	text, err := b.ask("show stat")
	if err != nil {
		return nil, err
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "# "))).ReadAll()
	if err != nil || len(rows) == 0 {
		return nil, fmt.Errorf("HAProxy's table: %q: %w", text, err)
	}
	all := map[string]state{}
	for _, row := range rows[1:] {
		s := state{}
		for i, column := range rows[0] {
			s[column] = row[i]
		}
		all[s["pxname"]+"/"+s["svname"]] = s
	}
	return all, nil
}

// noticed waits until HAProxy knows for each of its backends that a gateway is up, or down, and reports whether it did
// within the limit.
func (b *balancer) noticed(ctx context.Context, gateway int, up bool, limit time.Duration) (bool, error) {
	for end := time.Now().Add(limit); ; {
		all, err := b.states()
		if err != nil {
			return false, err
		}
		if !slices.ContainsFunc(backends, func(name string) bool { return all[name+"/"+servers[gateway]].up() != up }) {
			return true, nil
		}
		if sleep(ctx, 50*time.Millisecond); ctx.Err() != nil || time.Now().After(end) {
			return false, nil
		}
	}
}
