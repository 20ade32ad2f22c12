package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

func build(ctx context.Context, dir string) (string, error) {
	return goBuild(ctx, filepath.Join(dir, "consentgate"))
}

func goBuild(ctx context.Context, binary string, flags ...string) (string, error) {
	args := slices.Concat([]string{"build", "-trimpath", "-o", binary}, flags, []string{"github.com/consentgate/consentgate/cmd/consentgate"})
	cmd := exec.CommandContext(ctx, "go", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return binary, nil
}

// gateway is the program under test, on ports that stay the same over its restarts.
type gateway struct {
	binary, dir, config string
	smtp, api, page     string // the api's is a URL
	proxied             bool   // who connects has to send a PROXY header
	env                 []string

	mu       sync.Mutex
	cmd      *exec.Cmd
	done     chan struct{}
	restarts int
	kills    int // those of them without order
}

const configuration = `hostname = "gate.example.org"
key_file = %q
[smtp]
listen = [%q]
[smarthost]
urls = ["smtp://%s"]
connect_timeout = "5s"
[delivery]
mode = %q
spool_dir = %q
first_retry = "1s"
retry_for = "1h"
[consent]
store = %q
wait_replicas = %d
[rewrite]
opaque_links = "keep"
[unsubscribe]
base_url = "https://mail.example.org"
listen = %q
chain = false
[admin]
listen = %q
`

// settings are what the rows differ in.
type settings struct {
	key, mode, smarthost, spool, store string
	waitReplicas                       int
}

func newGateway(dir, binary string, set settings) (*gateway, error) {
	g := &gateway{binary: binary, dir: dir, config: filepath.Join(dir, "consentgate.toml")}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	g.smtp, g.page, g.api = ports[0], ports[1], "http://"+ports[2]
	text := fmt.Sprintf(configuration, set.key, g.smtp, set.smarthost, set.mode, set.spool, set.store, set.waitReplicas, ports[1], ports[2])
	return g, os.WriteFile(g.config, []byte(text), 0o600)
}

// freePorts returns addresses of loopback that nobody listens on now.
func freePorts(n int) ([]string, error) {
	all := make([]string, n)
	for i := range all {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		all[i] = l.Addr().String()
	}
	return all, nil
}

// start starts the gateway and waits until it greets.
func (g *gateway) start(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(g.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(g.binary, "serve", "--config", g.config)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), g.env...)
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	g.mu.Lock()
	g.cmd, g.done = cmd, done
	g.mu.Unlock()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if c, err := net.Dial("tcp", g.smtp); err == nil {
			b := make([]byte, 3)
			c.SetDeadline(time.Now().Add(5 * time.Second))
			if g.proxied {
				_, err = c.Write([]byte("PROXY UNKNOWN\r\n"))
			}
			if err == nil {
				_, err = c.Read(b)
			}
			c.Close()
			if err == nil && string(b) == "220" {
				return nil
			}
		}
		select {
		case <-done:
			return fmt.Errorf("the gateway ended at once; see %s/log", g.dir)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("the gateway does not greet; see %s/log", g.dir)
}

// kill ends it without a chance to do anything, or in good order, and starts it again.
func (g *gateway) kill(ctx context.Context, order bool) error {
	if order {
		if err := g.stop(); err != nil {
			return err
		}
	} else {
		g.cmd.Process.Kill()
		<-g.done
		g.kills++
	}
	g.restarts++
	return g.start(ctx)
}

// stop ends it in good order.
func (g *gateway) stop() error {
	g.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-g.done:
		return nil
	case <-time.After(40 * time.Second):
	}
	g.cmd.Process.Kill()
	<-g.done
	return fmt.Errorf("the gateway had not ended 40 s after SIGTERM")
}

// cli runs a verb against the running gateway.
func (g *gateway) cli(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, g.binary, args...)
	cmd.Dir = g.dir // where consentgate.toml is
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("consentgate %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return string(out), nil
}

// drained waits until nothing is in the spool any more. With hurry what waits is made due again and
// again; without, it is left to the gateway when.
func (g *gateway) drained(ctx context.Context, limit time.Duration, hurry bool) (left string, err error) {
	for end := time.Now().Add(limit); ; {
		pause := 200 * time.Millisecond
		if hurry {
			pause = time.Second
			if _, err := g.cli(ctx, "queue", "retry", "--all"); err != nil {
				return "", err
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return "", ctx.Err()
		}
		out, err := g.cli(ctx, "queue", "list")
		if err != nil || strings.HasPrefix(out, "nothing waits") {
			return "", err
		}
		if time.Now().After(end) {
			return out, nil
		}
	}
}
