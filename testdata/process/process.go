// Package process starts the programs that measurements and faults need, stops them by their own process
// ids, and reads from /proc what they take.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a program that was started here and is stopped here.
type Process struct {
	Cmd  *exec.Cmd
	Done chan struct{} // closed when it has ended
	Log  string        // the file that its output goes to
}

// Start runs a program whose output is appended to the file log.
func Start(log, name string, args ...string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &Process{Cmd: exec.Command(name, args...), Done: make(chan struct{}), Log: log}
	p.Cmd.Stdout, p.Cmd.Stderr = out, out
	// A session of its own: Ctrl-C is for this program, which then stops the others in order. (A
	// mere group would not do for Postfix's master, which wants to lead its session.)
	p.Cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := p.Cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.Cmd.Wait()
		close(p.Done)
	}()
	return p, nil
}

// PID is its process id.
func (p *Process) PID() int { return p.Cmd.Process.Pid }

// Ended reports whether it has.
func (p *Process) Ended() bool {
	select {
	case <-p.Done:
		return true
	default:
		return false
	}
}

// Ready waits until f succeeds, or the program has ended.
func (p *Process) Ready(ctx context.Context, f func() error) error {
	err := Until(ctx, 20*time.Second, func() error {
		if p.Ended() {
			return nil
		}
		return f()
	})
	if p.Ended() {
		err = errors.New("it ended at once")
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", p.Cmd.Path, err, p.Said())
	}
	return nil
}

// Stop sends SIGTERM; what is left of the group after 35 s is killed.
func (p *Process) Stop() error {
	p.Cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.Done:
		return nil
	case <-time.After(35 * time.Second):
	}
	syscall.Kill(-p.PID(), syscall.SIGKILL)
	<-p.Done
	return fmt.Errorf("%s had not ended 35 s after SIGTERM", p.Cmd.Path)
}

// Said is the end of the program's output.
func (p *Process) Said() string {
	text, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// Until calls f until it succeeds, and returns its last error at the end of limit, or of ctx.
func Until(ctx context.Context, limit time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w (waited %s)", err, limit)
		}
	}
}

// tick is the unit of the times in /proc, USER_HZ: a hundredth of a second on every Linux.
const tick = 10 * time.Millisecond

// stat returns the fields of /proc/PID/stat from the third on (proc(5)); none where there is no
// such process, or no /proc.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // a name may hold anything
}

// CPU is what the processes have used, user and system together, with that of their children
// that have ended.
func CPU(pids ...int) (used time.Duration) {
	for _, pid := range pids {
		if f := stat(pid); len(f) > 14 {
			for _, field := range f[11:15] { // utime, stime, cutime, cstime
				n, _ := strconv.ParseInt(field, 10, 64)
				used += time.Duration(n) * tick
			}
		}
	}
	return used
}

// Memory reads a size from /proc/PID/status, such as VmRSS or VmHWM; in MB, 0 where there is none.
func Memory(pid int, name string) float64 {
	return sizeIn(fmt.Sprintf("/proc/%d/status", pid), name)
}

func sizeIn(path, name string) float64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kb, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kb / 1024
		}
	}
	return 0
}

// Files is how many file descriptors a process has open.
func Files(pid int) int {
	dir, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0
	}
	return len(dir)
}
