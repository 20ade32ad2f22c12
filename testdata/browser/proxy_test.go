package browser

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"hash/fnv"
	"image"
	"image/color"
	"image/png"
	"io"
	"math/big"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/consentgate/consentgate/rewrite/trackers"
)

// documentURL is where the mail stands for the browser.
const documentURL = "http://mail.invalid/"

// document is the HTML of a mail as a reader would show it.
type document struct {
	html    []byte
	charset string
}

// proxy answers for all of the network, and notes what it was asked for.
type proxy struct {
	address string
	cert    tls.Certificate

	mu     sync.Mutex
	hosts  map[string]http.Handler // who answers for a host; the proxy for all others
	doc    document
	seen   []string
	pixels map[string]bool // bare addresses of pictures of one pixel
}

// connection stands behind a noted address where a connection was opened, whatever was asked then.
const connection = " (connection)"

var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"*"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func startProxy(t *testing.T) *proxy {
	t.Helper()
	p := &proxy{cert: certificate()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = "http://" + l.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(p.serve), TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	done := make(chan struct{})
	go func() {
		server.Serve(l) // until it is closed
		close(done)
	}()
	t.Cleanup(func() { server.Close(); <-done })
	return p
}

// show sets the document and forgets what was fetched.
func (p *proxy) show(d document) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doc, p.seen = d, nil
}

// host lets another answer for a host.
func (p *proxy) host(name string, h http.Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hosts == nil {
		p.hosts = map[string]http.Handler{}
	}
	p.hosts[name] = h
}

// spacers says which bare addresses are answered with a picture of one transparent pixel, beside the
// trackers.
func (p *proxy) spacers(urls map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pixels = urls
}

func (p *proxy) fetched() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

func (p *proxy) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		p.answer(w, r, "http://"+r.Host)
		return
	}
	raw, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	io.WriteString(raw, "HTTP/1.1 200 OK\r\n\r\n")
	host := "https://" + strings.TrimSuffix(r.Host, ":443")
	p.note(host + "/" + connection)
	conn := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{p.cert}})
	inner := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.answer(w, r, host) }), TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	inner.Serve(&one{conn: conn}) // returns at once; the connection lives on until the browser ends it
}

// one is a listener of a single connection.
type one struct {
	conn net.Conn
}

func (l *one) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l *one) Close() error   { return nil }
func (l *one) Addr() net.Addr { return &net.TCPAddr{} }

func (p *proxy) note(url string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, url)
}

var pixel, _ = base64.StdEncoding.DecodeString("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")

func (p *proxy) answer(w http.ResponseWriter, r *http.Request, host string) {
	url := host + r.URL.RequestURI()
	if strings.HasPrefix(r.URL.String(), "http://") {
		url = r.URL.String()
	}
	w.Header().Set("Cache-Control", "no-store")
	if url == documentURL {
		p.mu.Lock()
		d := p.doc
		p.mu.Unlock()
		w.Header().Set("Content-Type", "text/html; charset="+d.charset)
		w.Write(d.html)
		return
	}
	if strings.HasPrefix(url, documentURL) || r.URL.Path == "/favicon.ico" { // a relative address is nothing in a mail; and the browser's own wish for an icon
		http.NotFound(w, r)
		return
	}
	p.note(url)
	p.mu.Lock()
	spacer, other := p.pixels[bare(url)], p.hosts[r.Host]
	p.mu.Unlock()
	if other != nil {
		other.ServeHTTP(w, r)
		return
	}
	switch {
	case strings.HasPrefix(r.Header.Get("Sec-Fetch-Dest"), "style"), path.Ext(r.URL.Path) == ".css":
		w.Header().Set("Content-Type", "text/css")
	case spacer || trackers.Default().Open(url) != nil || trackers.Default().OpenLike(url):
		w.Header().Set("Content-Type", "image/gif")
		w.Write(pixel)
	default:
		w.Header().Set("Content-Type", "image/png")
		w.Write(picture(url))
	}
}

// picture is a picture of its own for each address.
func picture(url string) []byte {
	h := fnv.New32a()
	io.WriteString(h, url)
	n := h.Sum32()
	m := image.NewPaletted(image.Rect(0, 0, 40+int(n>>8)%80, 30+int(n>>16)%50), color.Palette{color.RGBA{byte(n), byte(n >> 8), byte(n >> 16), 255}})
	var b bytes.Buffer
	png.Encode(&b, m) // into memory
	return b.Bytes()
}
