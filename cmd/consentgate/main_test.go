package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	testscript.Main(leakless{m}, map[string]func(){"consentgate": main})
}

// leakless runs the tests, and fails where they leave goroutines behind.
type leakless struct{ *testing.M }

func (l leakless) Run() int {
	code := l.M.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// TestScripts runs the command as a user does: testdata/script/*.txtar.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Values["gateways"] = map[string]*gatewayProcess{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start":  startCmd,
			"end":    endCmd,
			"status": statusCmd,
			"mode":   modeCmd,
			"hold":   holdCmd,
			"edit":   editCmd,
			"submit": submitCmd,

			"smarthost": smarthostCmd,
		},
	})
}

// gatewayProcess is a consentgate serve in the background.
type gatewayProcess struct {
	cmd  *exec.Cmd
	done chan error
	log  chan string // the whole log, once it has ended
}

// start NAME ARG... runs consentgate with the arguments in the background and waits until its
// log says that it is ready. end NAME ends it.
func startCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME ARG...")
	}
	exe, err := os.Executable()
	ts.Check(err)
	cmd := exec.Command(exe, args[1:]...)
	cmd.Args[0] = "consentgate" // which is how testscript.Main tells which command it is
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "WORK="+ts.Getenv("WORK"))
	stderr, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	p := &gatewayProcess{cmd: cmd, done: make(chan error, 1), log: make(chan string, 1)}
	ready := make(chan struct{})
	go func() {
		var log strings.Builder
		lines := bufio.NewScanner(io.TeeReader(stderr, &log))
		for lines.Scan() {
			if strings.Contains(lines.Text(), "consentgate is ready") {
				close(ready)
			}
		}
		p.log <- log.String()
		p.done <- cmd.Wait()
	}()
	ts.Value("gateways").(map[string]*gatewayProcess)[args[0]] = p
	ts.Defer(func() { cmd.Process.Kill() }) // of no effect where end has ended it
	select {
	case <-ready:
	case log := <-p.log:
		ts.Fatalf("the gateway ended before it was ready:\n%s", log)
	case <-time.After(20 * time.Second):
		ts.Fatalf("the gateway is not ready after 20 s")
	}
}

// end NAME SIGNAL STATUS ends what start began, checks its exit status, and leaves its log in
// the file NAME.log.
func endCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: end NAME SIGNAL STATUS")
	}
	p := ts.Value("gateways").(map[string]*gatewayProcess)[args[0]]
	signals := map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": os.Interrupt, "KILL": os.Kill}
	ts.Check(p.cmd.Process.Signal(signals[args[1]]))
	select {
	case <-p.done:
	case <-time.After(35 * time.Second):
		ts.Fatalf("the gateway has not ended 35 s after %s", args[1])
	}
	log := <-p.log
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".log"), []byte(log), 0o600))
	if got := strconv.Itoa(p.cmd.ProcessState.ExitCode()); got != args[2] {
		ts.Fatalf("exit status %s, want %s\n%s", got, args[2], log)
	}
}

// status N ARG... runs consentgate and checks its exit status; its output is for stdout and
// stderr. Standard input is the file named by -stdin FILE before N.
func statusCmd(ts *testscript.TestScript, neg bool, args []string) {
	stdin := ""
	if len(args) > 1 && args[0] == "-stdin" {
		stdin, args = ts.ReadFile(args[1]), args[2:]
	}
	if neg || len(args) < 1 {
		ts.Fatalf("usage: status [-stdin FILE] N ARG...")
	}
	exe, err := os.Executable()
	ts.Check(err)
	cmd := exec.Command(exe, args[1:]...)
	cmd.Args[0] = "consentgate"
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "WORK="+ts.Getenv("WORK"))
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	cmd.Run() // the status says how it went
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
}

// mode OCTAL FILE checks the permissions of a file or socket.
func modeCmd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: mode OCTAL FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); (got == args[0]) == neg {
		ts.Fatalf("%s has mode %s", args[1], got)
	}
}

// hold NAME listens on a port until the script ends; $NAME is host:port.
func holdCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hold NAME")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], l.Addr().String())
}

// smarthost NAME runs a mail server until the script ends; $NAME is host:port. What it takes is in the files
// NAME.1.eml, NAME.2.eml … It refuses mail to those whose name begins with "refused".
func smarthostCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: smarthost NAME")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	s := &scriptSmarthost{name: ts.MkAbs(args[0])}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return s, nil }))
	server.EnableSMTPUTF8 = true
	ended := make(chan struct{})
	go func() {
		server.Serve(l)
		close(ended)
	}()
	ts.Defer(func() {
		server.Close()
		l.Close() // Serve may not have come to it yet
		<-ended
	})
	ts.Setenv(args[0], l.Addr().String())
}

// scriptSmarthost is all its sessions.
type scriptSmarthost struct {
	name string // of the files, without number
	got  atomic.Int32
}

func (s *scriptSmarthost) Reset()                               {}
func (s *scriptSmarthost) Logout() error                        { return nil }
func (s *scriptSmarthost) Mail(string, *smtp.MailOptions) error { return nil }
func (s *scriptSmarthost) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "refused") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such person here"}
	}
	return nil
}
func (s *scriptSmarthost) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return os.WriteFile(fmt.Sprintf("%s.%d.eml", s.name, s.got.Add(1)), text, 0o600)
}

// edit FILE OLD NEW replaces each OLD in the file.
func editCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: edit FILE OLD NEW")
	}
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(text, args[1], args[2])), 0o600))
}

// submit ID SOCKET FROM TO,TO FILE sends a message through a unix socket; $ID is what the gateway
// answered.
func submitCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 {
		ts.Fatalf("usage: submit ID SOCKET FROM TO,TO FILE")
	}
	conn, err := net.Dial("unix", ts.MkAbs(args[1]))
	ts.Check(err)
	defer conn.Close()
	ts.Check(conn.SetDeadline(time.Now().Add(30 * time.Second)))
	r := textproto.NewReader(bufio.NewReader(conn))
	_, _, err = r.ReadResponse(220)
	ts.Check(err)
	say := func(want int, text string) string {
		_, err := io.WriteString(conn, text+"\r\n")
		ts.Check(err)
		_, answer, err := r.ReadResponse(want)
		ts.Check(err)
		return answer
	}
	say(250, "EHLO client.example.org")
	say(250, "MAIL FROM:<"+args[2]+">")
	for to := range strings.SplitSeq(args[3], ",") {
		say(250, "RCPT TO:<"+to+">")
	}
	say(354, "DATA")
	answer := say(250, strings.ReplaceAll(ts.ReadFile(args[4]), "\n", "\r\n")+".")
	ts.Setenv(args[0], strings.TrimPrefix(answer, "2.0.0 "))
	say(221, "QUIT")
}

// waitFor reads until a line holds want.
func waitFor(t *testing.T, r io.Reader, want string) {
	t.Helper()
	found := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			if strings.Contains(lines.Text(), want) {
				found <- true
			}
		}
		found <- false
	}()
	select {
	case ok := <-found:
		if !ok {
			t.Fatalf("it ended without saying %q", want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("it did not say %q in 10 s", want)
	}
}
