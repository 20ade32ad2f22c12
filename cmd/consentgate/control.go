package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
)

// The control socket is how the verbs speak to a running gateway on the same machine: HTTP over
// a unix socket, mode 0600, beside the spool. Whoever may open it may do everything.

// errRunning says that another gateway answers on the control socket.
var errRunning = errors.New("a gateway is running with this configuration already")

func controlPath(cfg *config.Config) string {
	return filepath.Join(filepath.Dir(filepath.Clean(cfg.Delivery.SpoolDir)), "control.sock")
}

// copiesDir is where the copies for delivery.keep_copies_for are.
func copiesDir(cfg *config.Config) string {
	return filepath.Join(filepath.Dir(filepath.Clean(cfg.Delivery.SpoolDir)), "copies")
}

// listenControl binds the control socket. It makes the folder (mode 0700) where there is none,
// and removes a socket that nobody answers on. It sets the process's umask for a moment, so it
// must run before anything else makes files.
func listenControl(path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := checkFolder(dir); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	switch conn, err := dialControl(context.Background(), path); {
	case err == nil:
		conn.Close()
		return nil, fmt.Errorf("%w: it answers on %s; stop it first, or give this one a delivery.spool_dir of its own", errRunning, path)
	case !errors.Is(err, errNobody):
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("control socket: %s is in the way and is no socket: move it away", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control socket: %w", err)
		}
	}
	umask(0o177)
	defer umask(socketMask)
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

// socketMask lets the group of the gateway's user, and nobody else, send mail through a unix
// socket of smtp.listen, since who may open it needs no password.
const socketMask = 0o007

// checkFolder refuses a folder in which others could put another file in a file's place.
func checkFolder(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if mode := info.Mode(); mode.Perm()&0o022 != 0 && mode&fs.ModeSticky == 0 {
		return fmt.Errorf("folder %s has mode %04o, so others could put a socket of their own there: chmod 700 %s", dir, mode.Perm(), dir)
	}
	return nil
}

// dialControl connects to a running gateway. An error that is errNobody says that none runs.
func dialControl(ctx context.Context, path string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 2 * time.Second}
	conn, err := dialer.DialContext(ctx, "unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTDIR) {
		return nil, errNobody
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%s may not be opened, run this as the user of the gateway: %w", path, err)
	}
	return conn, err
}

var errNobody = errors.New("no gateway is running")
