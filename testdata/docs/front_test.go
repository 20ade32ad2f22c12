package docs

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/boltstore"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/token"
	"github.com/consentgate/consentgate/consent/web"
	"github.com/consentgate/consentgate/testdata/process"
)

// The blocks for web servers in front of the page, as they stand in FAQ.md but for ports and files, with the page
// behind them: a link opens, one click unsubscribes, the gateway knows where the reader is, whatever the reader says
// of it, and nothing that the server writes holds the link, not even when the gateway is gone.
func TestWebServersInFront(t *testing.T) {
	for _, server := range []struct {
		name, begins string // the program; the first line of its block
		start        func(dir, block, port, cert, key, page string) (conf string, args []string)
	}{
		{"nginx", "server {", func(dir, block, port, cert, key, page string) (string, []string) {
			block = swap(t, block, "listen 443 ssl", "listen 127.0.0.1:"+port+" ssl", "/etc/ssl/mail.example.org/fullchain.pem", cert,
				"/etc/ssl/mail.example.org/privkey.pem", key, "/var/log/nginx", dir, "127.0.0.1:8080", page)
			user := ""
			if os.Geteuid() == 0 { // its workers would be somebody else, who may not read this folder
				user = "user root; "
			}
			temp := ""
			for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
				temp += name + "_temp_path " + dir + "/" + name + ";\n"
			}
			// What surrounds the block keeps logs, as nginx does by itself.
			return user + "daemon off; pid " + dir + "/pid; error_log " + dir + "/error.log; events {}\nhttp {\naccess_log " + dir + "/access.log;\n" + temp + block + "}\n",
				[]string{"-c", dir + "/conf", "-p", dir}
		}},
		{"caddy", "{", func(dir, block, port, cert, key, page string) (string, []string) {
			t.Setenv("XDG_DATA_HOME", dir)
			t.Setenv("XDG_CONFIG_HOME", dir)
			return swap(t, block, "    log {", "    admin off\n    auto_https disable_redirects\n    log {", "mail.example.org {", "https://mail.example.org:"+port+" {\n    bind 127.0.0.1\n    tls "+cert+" "+key,
				"127.0.0.1:8080", page), []string{"run", "--adapter", "caddyfile", "--config", dir + "/conf"}
		}},
	} {
		t.Run(server.name, func(t *testing.T) {
			program, err := exec.LookPath(server.name)
			if err != nil {
				t.Skip(server.name + " is not there")
			}
			var from []netip.Addr
			anna, err := consent.ParseAddress("anna@example.org")
			if err != nil {
				t.Fatal(err)
			}
			store, link, handler := page(t, anna)
			behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				from = append(from, web.Client(r, []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}))
				handler.ServeHTTP(w, r)
			}))
			defer behind.Close()

			dir := t.TempDir()
			cert, key := certificate(t, dir)
			port := freePort(t)
			conf, args := server.start(dir, block(t, "../../deploy/FAQ.md", server.begins), port, cert, key, strings.TrimPrefix(behind.URL, "http://"))
			if err := os.WriteFile(dir+"/conf", []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			p, err := process.Start(dir+"/output.log", program, args...)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Stop()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			reader := &http.Client{Transport: &http.Transport{
				TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it was made above
				DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) { // from where no proxy is
					d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
					return d.DialContext(ctx, network, "127.0.0.1:"+port)
				},
			}}
			defer reader.CloseIdleConnections()
			ask := func(method, body string) (int, error) {
				r, err := http.NewRequestWithContext(ctx, method, "https://mail.example.org:"+port+link, strings.NewReader(body))
				if err != nil {
					return 0, err
				}
				r.Header.Set("X-Forwarded-For", "192.0.2.7")
				r.Header.Set("Forwarded", "for=192.0.2.8")
				if body != "" {
					r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				}
				response, err := reader.Do(r)
				if err != nil {
					return 0, err
				}
				defer response.Body.Close()
				_, err = io.Copy(io.Discard, response.Body)
				return response.StatusCode, err
			}
			if err := p.Ready(ctx, func() error { _, err := ask("GET", ""); return err }); err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct{ method, body string }{{"GET", ""}, {"POST", url.Values{"List-Unsubscribe": {"One-Click"}}.Encode()}} {
				if status, err := ask(c.method, c.body); status != 200 || err != nil {
					t.Errorf("%s: %d, %v", c.method, status, err)
				}
			}
			rs, err := store.Lookup(ctx, "news", []consent.Address{anna})
			if err != nil || rs[0].Scope.Mail.State != consent.Unsubscribed {
				t.Errorf("one click: %+v, %v", rs, err)
			}
			for _, a := range from {
				if a != netip.MustParseAddr("127.0.0.2") {
					t.Errorf("a reader at 127.0.0.2 is taken for one at %s", a)
				}
			}
			behind.Close()
			if status, err := ask("GET", ""); status != 502 || err != nil {
				t.Errorf("without the gateway: %d, %v", status, err)
			}
			if err := p.Stop(); err != nil {
				t.Error(err)
			}
			written := 0
			err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				text, err := os.ReadFile(path)
				if written++; bytes.Contains(text, []byte(link)) {
					t.Errorf("%s holds the link", filepath.Base(path))
				}
				return err
			})
			if err != nil || written == 0 {
				t.Errorf("%d files, %v", written, err)
			}
		})
	}
}

// page is the page of a gateway, and the path of that person's link.
func page(t *testing.T, who consent.Address) (consent.Store, string, http.Handler) {
	t.Helper()
	ring := keyring.Ephemeral()
	store, err := boltstore.Open(filepath.Join(t.TempDir(), "db"), ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	links := token.New(ring)
	handler := web.NewPublic(web.PublicConfig{Store: store, Links: links, Ring: ring, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	return store, "/u/" + links.Seal(token.Claims{Who: who, Scope: "news"}), handler
}

// block is the indented text of a page that begins with that line, without its indent.
func block(t *testing.T, path, first string) string {
	t.Helper()
	_, rest, ok := strings.Cut(read(t, path), "\n\n    "+first+"\n")
	if !ok {
		t.Fatalf("%s has no block that begins with %q", path, first)
	}
	rest, _, _ = strings.Cut(rest, "\n\n")
	return first + "\n" + strings.ReplaceAll("\n"+rest, "\n    ", "\n")[1:] + "\n"
}

// swap replaces each old by its new, which must be there.
func swap(t *testing.T, text string, oldnew ...string) string {
	t.Helper()
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			t.Fatalf("there is no %q in\n%s", oldnew[i], text)
		}
		text = strings.ReplaceAll(text, oldnew[i], oldnew[i+1])
	}
	return text
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// certificate makes files of a certificate and its key.
func certificate(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mail.example.org"}, NotAfter: time.Now().Add(time.Hour)}
	public, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: public}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
