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

// Process is a program that was started here and is stopped here, by its own process id.
type Process struct {
	Cmd  *exec.Cmd
	Done chan struct{} // closed when it has ended
	Log  string        // the file that its output goes to
}

// Start runs a program whose output goes to the file log.
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

func (p *Process) PID() int { return p.Cmd.Process.Pid }

// Ready waits until f succeeds, or the program has ended.
func (p *Process) Ready(ctx context.Context, f func() error) error {
	err := Until(ctx, time.Minute, func() error {
		select {
		case <-p.Done:
			return nil
		default:
			return f()
		}
	})
	select {
	case <-p.Done:
		err = errors.New("it ended at once")
	default:
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", p.Cmd.Path, err, p.Said())
	}
	return nil
}

// Stop sends SIGTERM, waits for the program's end, up to 20 s, and kills what is left of its group then.
func (p *Process) Stop() (err error) {
	p.Cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.Done:
	case <-time.After(20 * time.Second):
		err = fmt.Errorf("%s had not ended 20 s after SIGTERM", p.Cmd.Path)
	}
	syscall.Kill(-p.PID(), syscall.SIGKILL) // it leads a session, so its group has its number
	<-p.Done
	return err
}

// Said is the end of the program's output.
func (p *Process) Said() string { return EndOf(p.Log) }

// EndOf is the end of a file, or why it cannot be read.
func EndOf(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
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
func CPU(pids []int) (used time.Duration) {
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

// OwnCPU is what this process has used.
func OwnCPU() time.Duration {
	var ru syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &ru) != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// MachineCPU is what all processes together have used since the machine began, with what the
// host took for others.
func MachineCPU() (used time.Duration) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	f := strings.Fields(line)
	for _, i := range []int{1, 2, 3, 8} { // user, nice, system, steal
		if i < len(f) {
			n, _ := strconv.ParseInt(f[i], 10, 64)
			used += time.Duration(n) * tick
		}
	}
	return used
}

// Memory reads a size from /proc/PID/status, such as VmHWM; in MB, 0 where there is none.
func Memory(pid int, name string) float64 { return size(fmt.Sprintf("/proc/%d/status", pid), name) }

// PSS is the memory of the processes together, each shared page counted once; in MB.
func PSS(pids []int) (mb float64) {
	for _, pid := range pids {
		mb += size(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss")
	}
	return mb
}

func size(path, name string) float64 {
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

// Children are the processes whose parent is pid.
func Children(pid int) (found []int) {
	dir, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range dir {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			if f := stat(n); len(f) > 1 && f[1] == strconv.Itoa(pid) {
				found = append(found, n)
			}
		}
	}
	return found
}

// Until calls f every 10 ms until it succeeds, and returns its last error after wait.
func Until(ctx context.Context, wait time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// Ended reports whether it has.
func (p *Process) Ended() bool {
	select {
	case <-p.Done:
		return true
	default:
		return false
	}
}

// Files is how many file descriptors a process has open.
func Files(pid int) int {
	dir, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0
	}
	return len(dir)
}
