package peers

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program that was started here, and is stopped here by its own process id.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	log  *journal
}

// start runs a program until the test ends; it must then end within 40 s of a SIGTERM.
func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, done: make(chan struct{}), log: &journal{}}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	// Postfix's master wants to lead its session.
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() { p.stop(t) })
	return p
}

// ready waits until f says so.
func (p *process) ready(t testing.TB, f func() bool) {
	t.Helper()
	for range every(t, 10*time.Millisecond, 30*time.Second) {
		select {
		case <-p.done:
			t.Fatalf("%s ended at once:\n%s", p.cmd.Path, p.log.text())
		default:
		}
		if f() {
			return
		}
	}
	t.Fatalf("%s is not ready after 30 s:\n%s", p.cmd.Path, p.log.text())
}

// stop ends it. Calling it again does nothing.
func (p *process) stop(t testing.TB) {
	t.Helper()
	select {
	case <-p.done:
		return
	default:
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(40 * time.Second):
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
		t.Errorf("%s had not ended 40 s after SIGTERM", p.cmd.Path)
	}
}

// journal keeps what a program says.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// every yields now and then at each tick, until limit is over.
func every(t testing.TB, tick, limit time.Duration) func(func() bool) {
	return func(yield func() bool) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for yield() {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}
}

// needs returns the path of a program, and skips the test where it is missing. Debian has some in
// /usr/sbin, which is not in everybody's PATH.
func needs(t testing.TB, program string) string {
	t.Helper()
	p, err := exec.LookPath(program)
	if err != nil {
		p, err = exec.LookPath("/usr/sbin/" + program)
	}
	if err != nil {
		t.Skipf("%s is not in PATH; this test needs a real one (make need installs it on Debian)", program)
	}
	return p
}

// needsRoot skips the test where the program behind it starts as root only.
func needsRoot(t testing.TB, program string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("%s starts as root only", program)
	}
}

// folder is a temporary one that other users can reach through.
func folder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
