package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// harakaVersion is installed by npm into the user's cache folder where it is not there.
const harakaVersion = "3.3.4"

// harakaConfig are the files below its folder. Two nodes, as many as there are cores on a small
// machine; the queue is on disk, each file synced before the answer. %[1]s is the address it listens
// on, %[2]s the port of the smarthost.
var harakaConfig = map[string]string{
	"config/me":           "peer.example.org\n",
	"config/log.ini":      "[main]\nlevel=warn\n",
	"config/outbound.ini": "concurrency_max=100\nenable_tls=false\nlocal_mx_ok=true\n",
	"config/smtp.ini":     "listen=%[1]s\nnodes=2\n",
	"config/plugins":      "next_hop\nfilter\n",
	// Takes all mail, and has one next hop.
	"plugins/next_hop.js": `exports.register = function () {
  this.register_hook('lookup_rdns', 'rdns'); this.register_hook('connect_init', 'relay')
  this.register_hook('mail', 'ok'); this.register_hook('rcpt', 'ok'); this.register_hook('get_mx', 'mx') }
exports.rdns = (next, c) => next(OK, 'localhost')
exports.relay = (next, c) => { c.relaying = true; next() }
exports.ok = (next, c) => next(OK)
exports.mx = (next, hmail, domain) => next(OK, { priority: 0, exchange: '127.0.0.1', port: %[2]s })
`,
	// The least that somebody would write: pixels of 1x1 go, a footer comes.
	"plugins/filter.js": `const PIXEL = /<img\b[^>]*\b(?:width="1"[^>]*height="1"|height="1"[^>]*width="1")[^>]*>/gi
const FOOT = '<p style="font-size:11px">You can <a href="https://mail.example.org/u/abcdef0123456789abcdef0123456789">` + harakaFooter + `</a> at any time.</p>'
exports.register = function () { this.register_hook('data', 'filter') }
exports.filter = (next, c) => {
  c.transaction.add_body_filter('text/html', (ct, enc, buf) => {
    let s = buf.toString().replace(PIXEL, '')
    const i = s.lastIndexOf('</body>')
    return Buffer.from(i < 0 ? s + FOOT : s.slice(0, i) + FOOT + s.slice(i)) })
  next() }
`,
}

const harakaFooter = "withdraw tracking consent"

// harakaFiltered says whether Haraka's filter did its work on a copy of the newsletter.
func harakaFiltered(text []byte) error {
	copied := unfolded(text)
	if strings.Contains(copied, `width=3D"1"`) || !strings.Contains(copied, harakaFooter) {
		return errors.New("a copy has its pixel or lacks the footer")
	}
	return nil
}

// startHaraka runs Haraka in dir, which is made.
func startHaraka(ctx context.Context, dir, smarthost string) (p *peer, err error) {
	if err := havePrograms("nodejs npm", "node", "npm"); err != nil {
		return nil, err
	}
	program, err := installHaraka(ctx)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	_, smarthostPort, err := net.SplitHostPort(smarthost)
	if err != nil {
		return nil, err
	}
	addr := net.JoinHostPort("127.0.0.1", port)
	files := map[string]string{}
	for name, text := range harakaConfig {
		files[name] = strings.NewReplacer("%[1]s", addr, "%[2]s", smarthostPort).Replace(text)
	}
	// What it would have of itself, had its own "haraka -i" made the folder; without, it cannot greet.
	own, err := os.ReadFile(filepath.Join(filepath.Dir(program), "..", "config", "connection.ini"))
	if err != nil {
		return nil, err
	}
	files["config/connection.ini"] = string(own)
	if err := lay(dir, []string{"", "config", "plugins", "queue"}, files); err != nil {
		return nil, err
	}
	node, err := output(ctx, "node", "--version")
	if err != nil {
		return nil, err
	}
	p = &peer{smtp: addr, versions: "Haraka " + harakaVersion + " on Node.js " + node, log: filepath.Join(dir, "log")}
	one, err := p.start(p.log, "node", program, "-c", dir)
	if err == nil {
		err = one.Ready(ctx, func() error { return greets(addr, "", "220 ") })
	}
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// harakaProgram is where it is, or is to be.
func harakaProgram() (program, dir string, err error) {
	cache, err := os.UserCacheDir()
	dir = filepath.Join(cache, "consentgate-bench", "haraka-"+harakaVersion)
	return filepath.Join(dir, "node_modules", "Haraka", "bin", "haraka"), dir, err
}

// installHaraka returns the program, installed into the user's cache folder if need be.
func installHaraka(ctx context.Context) (string, error) {
	program, dir, err := harakaProgram()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	// Into a folder beside it first: what is half installed is not to be found next time.
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	half, err := os.MkdirTemp(filepath.Dir(dir), "haraka-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(half)
	fmt.Fprintf(os.Stderr, "installing Haraka %s into %s\n", harakaVersion, dir)
	npm := exec.CommandContext(ctx, "npm", "install", "--prefix", half, "--no-audit", "--no-fund", "--omit=optional", "--ignore-scripts", "Haraka@"+harakaVersion)
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm cannot install Haraka: %w\n%s", err, out[max(0, len(out)-1000):])
	}
	if err := os.Rename(half, dir); err != nil {
		return "", err
	}
	return program, nil
}
