package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// server is a redis-server with a folder of its own, at an address that stays the same over its restarts.
type server struct {
	addr, dir string
	args      []string
	client    *redis.Client // straight to it, past any proxy
	cmd       *exec.Cmd
	done      chan struct{}
}

// newServer starts one. What it confirmed is on its disk.
func newServer(ctx context.Context, dir, addr string, more ...string) (*server, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	s := &server{addr: addr, dir: dir, client: redis.NewClient(&redis.Options{
		Addr: addr, MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Second, ContextTimeoutEnabled: true, DisableIdentity: true,
	})}
	s.args = []string{"--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "yes", "--appendfsync", "always",
		"--repl-diskless-sync-delay", "0"}
	if err := s.start(more...); err != nil {
		return nil, err
	}
	if _, err = s.answers(ctx); err != nil {
		s.kill()
		return nil, err
	}
	return s, nil
}

// start starts it with what its folder holds, and further arguments for this once.
func (s *server) start(more ...string) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("redis-server", slices.Concat(s.args, more)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	s.cmd, s.done = cmd, done
	return nil
}

// answers waits until it does, and returns since when.
func (s *server) answers(ctx context.Context) (time.Time, error) {
	return until(ctx, "redis-server at "+s.addr, func(ctx context.Context) error { return s.client.Ping(ctx).Err() })
}

// kill ends it without a chance to do anything.
func (s *server) kill() {
	s.cmd.Process.Kill()
	<-s.done
}

func (s *server) signal(sig syscall.Signal) error { return s.cmd.Process.Signal(sig) }

func (s *server) do(ctx context.Context, command string) error {
	var args []any
	for _, word := range strings.Fields(command) {
		args = append(args, word)
	}
	if err := s.client.Do(ctx, args...).Err(); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return nil
}

// info reports one line of INFO.
func (s *server) info(ctx context.Context, section, name string) (string, error) {
	text, err := s.client.Info(ctx, section).Result()
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("INFO %s has no %s", section, name)
}

// empty takes its data away, and restore brings that of then back; both restart it.
func (s *server) empty() error {
	s.kill()
	return errors.Join(os.Rename(s.data(), s.data()+".away"), s.start())
}

func (s *server) restore() error {
	s.kill()
	return errors.Join(os.RemoveAll(s.data()), os.Rename(s.data()+".away", s.data()), s.start())
}

func (s *server) data() string { return filepath.Join(s.dir, "appendonlydir") }

// until tries f every few milliseconds until it succeeds, for at most 30 s, and returns when it did.
func until(ctx context.Context, what string, f func(context.Context) error) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		try, end := context.WithTimeout(ctx, time.Second)
		err := f(try)
		end()
		if err == nil {
			return time.Now(), nil
		}
		if sleep(ctx, 3*time.Millisecond); ctx.Err() != nil {
			return time.Time{}, fmt.Errorf("%s: %w", what, err)
		}
	}
}
