package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// house is all that runs: Redis, two nginx, and the gateway once with its memory and once without.
type house struct {
	dir     string
	running []*exec.Cmd
}

const configuration = `hostname = "gate.example.org"
key_file = "DIR/key"
[smtp]
listen = ["127.0.0.1:0"]
[smarthost]
urls = ["smtp://127.0.0.1:1"]
[delivery]
mode = "stateless"
spool_dir = "DIR/PORT/spool"
[consent]
store = "redis://127.0.0.1:6399/0"
cache = "CACHE"
[rewrite]
opaque_links = "keep"
[unsubscribe]
base_url = "https://mail.example.org"
listen = "127.0.0.1:PORT"
[tracking]
mode = "guard"
base_url = "https://links.example.org"
[admin]
listen = "127.0.0.1:1PORT"
`

const nginx = `worker_processes 1;
user root;
pid DIR/nginx.pid;
error_log DIR/nginx.log;
events { worker_connections 1024; }
http {
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
    server { listen 127.0.0.1:8070; location / { return 302 DESTINATION; } }
    server { listen PUBLIC:8071; location / { empty_gif; } }
}
`

// run starts a program and waits until address takes connections.
func (h *house) run(address, name string, args ...string) error {
	log, err := os.Create(filepath.Join(h.dir, fmt.Sprintf("log%d", len(h.running))))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	h.running = append(h.running, cmd)
	for range 200 {
		if c, err := net.Dial("tcp", address); err == nil {
			return c.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	return fmt.Errorf("%s does not come up: %s", name, text)
}

// close ends everything, the last first.
func (h *house) close() error {
	var all error
	for i := len(h.running) - 1; i >= 0; i-- {
		h.running[i].Process.Signal(syscall.SIGTERM)
		all = errors.Join(all, h.running[i].Wait())
	}
	return all
}

func (h *house) start(binary string) error {
	fill := func(text string, more ...string) []byte {
		return []byte(strings.NewReplacer(append(more, "DIR", h.dir, "DESTINATION", `"`+destination+`"`, "PUBLIC", publicAddress)...).Replace(text))
	}
	if err := h.run("127.0.0.1:6399", "redis-server", "--bind", "127.0.0.1", "--port", "6399", "--save", "", "--appendonly", "no", "--dir", h.dir); err != nil {
		return err
	}
	if err := os.WriteFile(h.dir+"/nginx.conf", fill(nginx), 0o600); err != nil {
		return err
	}
	if err := h.run("127.0.0.1:8070", "nginx", "-c", h.dir+"/nginx.conf", "-g", "daemon off;"); err != nil {
		return err
	}
	if out, err := exec.Command(binary, "keygen", h.dir+"/key").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	for port, cache := range map[string]string{"8080": "5s", "8090": "0s"} {
		config := h.dir + "/" + port + ".toml"
		if err := os.Mkdir(h.dir+"/"+port, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(config, fill(configuration, "PORT", port, "CACHE", cache), 0o600); err != nil {
			return err
		}
		if err := h.run("127.0.0.1:"+port, binary, "serve", "--config", config); err != nil {
			return err
		}
	}
	for i := range people {
		for kind, states := range map[string]string{"yes": `{"open":"granted","click":"granted"}`, "no": `{"open":"denied","click":"denied"}`} {
			if err := put(fmt.Sprintf("http://127.0.0.1:18080/v1/consent/news/%s%d@example.org", kind, i), states); err != nil {
				return err
			}
		}
	}
	return nil
}

func put(addr, body string) error {
	r, err := http.NewRequest("PUT", addr, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("PUT: %s", resp.Status)
	}
	return nil
}

func mustParse(addr string) *url.URL {
	u, err := url.Parse(addr)
	if err != nil {
		panic("guardbench: " + err.Error()) // its own
	}
	return u
}
