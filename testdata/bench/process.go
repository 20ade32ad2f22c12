package main

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

// process is a program that was started here and is stopped here, by its own process id.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	log  string        // the file that its output goes to
}

// start runs a program whose output goes to the file log.
func start(log, name string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{cmd: exec.Command(name, args...), done: make(chan struct{}), log: log}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// A session of its own: Ctrl-C is for this program, which then stops the others in order. (A
	// mere group would not do for Postfix's master, which wants to lead its session.)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// ready waits until f succeeds, or the program has ended.
func (p *process) ready(ctx context.Context, f func() error) error {
	err := until(ctx, time.Minute, func() error {
		select {
		case <-p.done:
			return nil
		default:
			return f()
		}
	})
	select {
	case <-p.done:
		err = errors.New("it ended at once")
	default:
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", p.cmd.Path, err, p.said())
	}
	return nil
}

// stop sends SIGTERM, waits for the program's end, up to 20 s, and kills what is left of its group then.
func (p *process) stop() (err error) {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		err = fmt.Errorf("%s had not ended 20 s after SIGTERM", p.cmd.Path)
	}
	syscall.Kill(-p.pid(), syscall.SIGKILL) // it leads a session, so its group has its number
	<-p.done
	return err
}

// said is the end of the program's output.
func (p *process) said() string { return endOf(p.log) }

// endOf is the end of a file, or why it cannot be read.
func endOf(path string) string {
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

// cpu is what the processes have used, user and system together, with that of their children
// that have ended.
func cpu(pids []int) (used time.Duration) {
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

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	var ru syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &ru) != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// machineCPU is what all processes together have used since the machine began, with what the
// host took for others.
func machineCPU() (used time.Duration) {
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

// status reads a size from /proc/PID/status, such as VmHWM; in MB, 0 where there is none.
func status(pid int, name string) float64 { return size(fmt.Sprintf("/proc/%d/status", pid), name) }

// pss is the memory of the processes together, each shared page counted once; in MB.
func pss(pids []int) (mb float64) {
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

// children are the processes whose parent is pid.
func children(pid int) (found []int) {
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
