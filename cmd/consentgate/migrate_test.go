package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/redisstore"
	"github.com/consentgate/consentgate/consent/storetest"
	"github.com/consentgate/consentgate/consent/token"
)

// program runs this program as a user does, in a process of its own, and yields the lines that it prints.
type program struct {
	*exec.Cmd
	mu    sync.Mutex
	lines []string
	more  chan struct{}
	done  chan error
}

func startProgram(t *testing.T, args ...string) *program {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{Cmd: exec.Command(exe, args...), more: make(chan struct{}, 1), done: make(chan error, 1)}
	p.Args[0] = "consentgate" // which is how testscript.Main tells which command it is
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stdout, p.Stderr = in, in
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.mu.Lock()
			p.lines = append(p.lines, lines.Text())
			p.mu.Unlock()
			select {
			case p.more <- struct{}{}:
			default:
			}
		}
		out.Close()
		p.done <- p.Wait()
	}()
	t.Cleanup(func() { p.Process.Kill() })
	return p
}

func (p *program) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// says waits until the program prints text.
func (p *program) says(t *testing.T, text string) {
	t.Helper()
	for late := time.After(60 * time.Second); ; {
		if strings.Contains(p.text(), text) {
			return
		}
		select {
		case <-p.more:
		case err := <-p.done:
			p.done <- err
			if !strings.Contains(p.text(), text) {
				t.Fatalf("it ended, with %v, without saying %q:\n%s", err, text, p.text())
			}
			return
		case <-late:
			t.Fatalf("it does not say %q:\n%s", text, p.text())
		}
	}
}

// ends waits for its end.
func (p *program) ends(t *testing.T) error {
	t.Helper()
	select {
	case err := <-p.done:
		p.done <- err
		return err
	case <-time.After(60 * time.Second):
		t.Fatalf("it does not end:\n%s", p.text())
		return nil
	}
}

// house is what several gateways with one key file share.
type house struct {
	dir   string
	ring  *keyring.Ring
	links *token.Sealer
}

func newHouse(t *testing.T) *house {
	t.Helper()
	dir := newState(t)
	ring, err := keyring.Load(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	return &house{dir, ring, token.New(ring)}
}

// gate is one gateway, which is started again and again at the same addresses.
type gate struct {
	*house
	config, page string
	*program
}

func (h *house) gate(t *testing.T, name, store string) *gate {
	t.Helper()
	g := &gate{house: h, config: filepath.Join(h.dir, name+".toml"), page: unusedAddress(t)}
	text := fmt.Sprintf(`hostname = "gate.example.org"
key_file = "%[1]s/key"
[smtp]
listen = ["%[5]s"]
[smarthost]
urls = ["smtp://127.0.0.1:9"]
[delivery]
spool_dir = "%[1]s/%[2]s/spool"
[consent]
store = "%[3]s"
[rewrite]
opaque_links = "keep"
[admin]
listen = "%[6]s"
[unsubscribe]
base_url = "https://mail.example.org"
listen = "%[4]s"
`, h.dir, name, store, g.page, unusedAddress(t), unusedAddress(t))
	if err := os.WriteFile(g.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.serve(t)
	return g
}

func unusedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (g *gate) serve(t *testing.T) {
	t.Helper()
	g.program = startProgram(t, "serve", "--config", g.config)
	g.says(t, "consentgate is ready")
}

// use gives the gateway another store and starts it again.
func (g *gate) use(t *testing.T, old, new string) {
	t.Helper()
	text, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.config, []byte(strings.Replace(string(text), `"`+old+`"`, `"`+new+`"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	g.Process.Signal(syscall.SIGTERM)
	if err := g.ends(t); err != nil {
		t.Fatalf("%v\n%s", err, g.text())
	}
	g.serve(t)
}

// press makes one-click unsubscribes until stop is closed, each of another person, again until it is confirmed.
func (g *gate) press(t *testing.T, wg *sync.WaitGroup, stop <-chan struct{}, name string) *atomic.Int64 {
	confirmed := new(atomic.Int64)
	client := &http.Client{Timeout: 5 * time.Second}
	pace := time.NewTicker(20 * time.Millisecond)
	wg.Go(func() {
		defer pace.Stop()
		for n := int64(0); ; n++ {
			link := "http://" + g.page + "/u/" + g.links.Seal(token.Claims{Who: address(t, fmt.Sprintf(name, n)), Scope: "default"})
			for {
				select {
				case <-stop:
					return
				case <-pace.C:
				}
				resp, err := client.PostForm(link, url.Values{"List-Unsubscribe": {"One-Click"}})
				if err != nil { // while it starts again
					continue
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					break
				}
				if resp.StatusCode != http.StatusServiceUnavailable {
					t.Errorf("an opt-out: %s", resp.Status)
					return
				}
			}
			confirmed.Store(n + 1)
		}
	})
	return confirmed
}

func address(t *testing.T, mailbox string) consent.Address {
	a, err := consent.ParseAddress(mailbox)
	if err != nil {
		t.Error(err)
	}
	return a
}

// grow waits until so many more are confirmed.
func grow(t *testing.T, confirmed *atomic.Int64, more int64) {
	t.Helper()
	was := confirmed.Load()
	storetest.Eventually(t, "opt-outs", func() error {
		if n := confirmed.Load(); n < was+more {
			return fmt.Errorf("%d more", n-was)
		}
		return nil
	})
}

// arrived says that all that was confirmed is in the store, and that every history holds.
func (h *house) arrived(t *testing.T, store, name string, confirmed int64) {
	t.Helper()
	s, err := openMoving(store, h.ring, redisstore.None)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	lost := 0
	for n := range confirmed {
		who := address(t, fmt.Sprintf(name, n))
		rs, err := s.Lookup(t.Context(), "default", []consent.Address{who})
		if err != nil || rs[0].Err != nil {
			t.Fatal(rs, err)
		}
		if rs[0].Scope.Mail.State != consent.Unsubscribed {
			lost++
		}
		for e, err := range s.History(t.Context(), who) {
			if err != nil || e.Broken != "" {
				t.Fatalf("%s: %v %v", who, e, err)
			}
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d confirmed opt-outs are lost", lost, confirmed)
	}
}

// A gateway with a file goes over to Redis, while people unsubscribe all the time: none of the opt-outs is lost, and
// the gateway knows them from its first moment with the new store on.
func TestMigrateFromFile(t *testing.T) {
	t.Parallel()
	redis := "redis://" + storetest.RedisServer(t) + "/0"
	h := newHouse(t)
	file := "file:" + filepath.Join(h.dir, "consent.db")
	g := h.gate(t, "one", file)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	confirmed := g.press(t, &wg, stop, "p%d@example.org")
	grow(t, confirmed, 60)
	m := startProgram(t, "consent", "migrate", "--config", g.config, "--to", redis)
	m.says(t, "The rest goes by itself")
	grow(t, confirmed, 60)
	g.use(t, file, redis)
	known := confirmed.Load()
	h.arrived(t, redis, "p%d@example.org", known) // before the command has ended, too
	grow(t, confirmed, 60)
	if err := m.ends(t); err != nil {
		t.Fatalf("%v\n%s", err, m.text())
	}
	t.Logf("%s\n%d opt-outs, %d before the switch", m.text(), confirmed.Load(), known)
	grow(t, confirmed, 20)
	close(stop)
	wg.Wait()
	h.arrived(t, redis, "p%d@example.org", confirmed.Load())

	// Who takes the old file again is told so.
	g.Process.Signal(syscall.SIGTERM)
	g.ends(t)
	m = startProgram(t, "consent", "migrate", "--config", g.config, "--from", file, "--to", "redis://"+storetest.RedisServer(t)+"/0")
	if err := m.ends(t); err == nil || !strings.Contains(m.text(), consent.ErrMoved.Error()) {
		t.Errorf("%v\n%s", err, m.text())
	}
}

// Two gateways go over from one Redis to a Cluster, one after the other; a third is forgotten and refuses.
func TestMigrateToCluster(t *testing.T) {
	t.Parallel()
	redis, cluster := "redis://"+storetest.RedisServer(t)+"/0", "redis+cluster://"+storetest.RedisCluster(t)
	h := newHouse(t)
	var gates []*gate
	var all []*atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, name := range []string{"one", "two", "forgotten"} {
		g := h.gate(t, name, redis)
		gates = append(gates, g)
		all = append(all, g.press(t, &wg, stop, "p%d"+fmt.Sprintf(".%d@example.org", i)))
	}
	grow(t, all[0], 40)
	args := []string{"consent", "migrate", "--config", gates[0].config, "--from", redis, "--to", cluster}
	m := startProgram(t, args...)
	m.says(t, "press Ctrl-C")

	// Stopped hard, and gone on with.
	m.Process.Kill()
	m.ends(t)
	grow(t, all[1], 20)
	gates[0].use(t, redis, cluster)
	grow(t, all[0], 20)
	m = startProgram(t, args...)
	m.says(t, "press Ctrl-C")
	grow(t, all[0], 20)

	// An opt-out through the gateway that was switched holds soon for one that was not.
	n := all[0].Load()
	known := func() error {
		p := startProgram(t, "consent", "get", "--config", gates[1].config, fmt.Sprintf("p%d.0@example.org", n-1))
		if p.ends(t); !strings.Contains(p.text(), "unsubscribed") {
			return errors.New(p.text())
		}
		return nil
	}
	storetest.Eventually(t, "the other gateway", known)

	gates[1].use(t, redis, cluster)
	grow(t, all[1], 20)
	m.Process.Signal(os.Interrupt)
	if err := m.ends(t); err != nil {
		t.Fatalf("%v\n%s", err, m.text())
	}
	t.Log(m.text())
	refused := all[2].Load()
	grow(t, all[0], 20)
	grow(t, all[1], 20)
	close(stop)
	wg.Wait()
	for i, confirmed := range all {
		t.Logf("gateway %d: %d opt-outs confirmed", i, confirmed.Load())
		h.arrived(t, cluster, "p%d"+fmt.Sprintf(".%d@example.org", i), confirmed.Load())
	}
	if n := all[2].Load(); n > refused+1 {
		t.Errorf("the gateway with the old store went on to confirm opt-outs: %d, %d", refused, n)
	}
}

// A gateway that moves people out of its file is started again as it is, and later killed without a word: the
// command goes on with the first and makes up for the second.
func TestMigrateFromFileOfAGatewayThatIsKilled(t *testing.T) {
	t.Parallel()
	redis := "redis://" + storetest.RedisServer(t) + "/0"
	h := newHouse(t)
	file := "file:" + filepath.Join(h.dir, "consent.db")
	g := h.gate(t, "one", file)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	confirmed := g.press(t, &wg, stop, "p%d@example.org")
	grow(t, confirmed, 20)
	m := startProgram(t, "consent", "migrate", "--config", g.config, "--to", redis)
	m.says(t, "The rest goes by itself")
	g.Process.Signal(syscall.SIGTERM)
	if err := g.ends(t); err != nil {
		t.Fatal(err)
	}
	m.says(t, "what it knew is in the new store")
	g.serve(t)
	storetest.Eventually(t, "the command goes on", func() error {
		if n := strings.Count(m.text(), "The rest goes by itself"); n != 2 {
			return fmt.Errorf("%d times:\n%s", n, m.text())
		}
		return nil
	})
	grow(t, confirmed, 20)

	text, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.config, []byte(strings.Replace(string(text), `"`+file+`"`, `"`+redis+`"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	g.Process.Kill()
	g.ends(t)
	g.serve(t)
	if err := m.ends(t); err != nil {
		t.Fatalf("%v\n%s", err, m.text())
	}
	grow(t, confirmed, 20)
	close(stop)
	wg.Wait()
	h.arrived(t, redis, "p%d@example.org", confirmed.Load())
}

// What a flag takes from the environment, and what is meant as it stands, is as in the configuration.
func TestFromEnvironment(t *testing.T) {
	t.Setenv("HOST_OF_IT", "h")
	got, err := fromEnvironment("redis://:pa$${HOST_OF_IT}@${HOST_OF_IT}:1/0")
	if want := "redis://:pa${HOST_OF_IT}@h:1/0"; got != want || err != nil {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}

// Who asked for the end too early says so again, and the old store stays open, as with SIGTERM; the move is then given up.
func TestMigrateGivenUp(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	redis, other := "redis://"+storetest.RedisServer(t)+"/0", "redis://"+storetest.RedisServer(t)+"/0"
	g := h.gate(t, "one", redis)
	if err := startProgram(t, "consent", "set", "--config", g.config, "anna@example.org", "--mail", "unsubscribed").ends(t); err != nil {
		t.Fatal(err)
	}
	m := startProgram(t, "consent", "migrate", "--config", g.config, "--to", other)
	m.says(t, "press Ctrl-C")
	m.Process.Signal(syscall.SIGTERM) // the machine stops, and nobody said that all gateways have the new store
	if err := m.ends(t); err == nil || strings.Contains(m.text(), "is closed") || !strings.Contains(m.text(), "the same command goes on") {
		t.Fatalf("%v\n%s", err, m.text())
	}
	m = startProgram(t, "consent", "migrate", "--config", g.config, "--to", other)
	m.says(t, "press Ctrl-C")
	m.Process.Signal(os.Interrupt)
	m.says(t, "Ctrl-C again leaves it open")
	m.Process.Signal(os.Interrupt)
	if err := m.ends(t); err == nil || strings.Contains(m.text(), "is closed:") {
		t.Fatalf("%v\n%s", err, m.text())
	}
	get := func() string {
		p := startProgram(t, "consent", "get", "--config", g.config, "anna@example.org")
		p.ends(t)
		return p.text()
	}
	if said := get(); !strings.Contains(said, "unsubscribed") {
		t.Fatal(said)
	}
	m = startProgram(t, "consent", "migrate", "--config", g.config, "--from", other, "--to", redis, "--stopped")
	if err := m.ends(t); err != nil || !strings.Contains(m.text(), "1 people") {
		t.Fatalf("%v\n%s", err, m.text())
	}
	if said := get(); !strings.Contains(said, "unsubscribed") {
		t.Fatal(said)
	}
}
