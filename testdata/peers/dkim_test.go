package peers

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/relay/sign"
	"github.com/consentgate/consentgate/rewrite"
	"github.com/consentgate/consentgate/rewrite/trackers"
)

// mailauth is the version that is installed for the test.
const mailauth = "4.13.3"

// signedCopies signs every golden copy with the key, writes each into a file of its own and returns their
// paths, with a public key file as opendkim reads it and the TXT record.
func signedCopies(t *testing.T, private any) (files []string, table, record string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	var golden []string
	for _, pattern := range []string{"../rewrite/*.want.eml", "../rewrite/*/*.want.eml"} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		golden = append(golden, more...)
	}
	if len(golden) < 60 {
		t.Fatalf("only %d golden copies", len(golden))
	}
	dir := t.TempDir()
	names := map[string]bool{}
	for _, file := range golden {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		src = bytes.ReplaceAll(src, []byte("\n"), []byte("\r\n"))
		m, err := rewrite.Parse(rewrite.Bytes(src), int64(len(src)), trackers.Default(), rewrite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		copy, err := m.Render(rewrite.Variant{Open: true, Click: true, Bare: true})
		if err != nil {
			t.Fatal(err)
		}
		domains, err := sign.FromDomains(m.Fields("From"))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		k, err := sign.ParseKey(text, domains[0], "gate")
		if err != nil {
			t.Fatal(err)
		}
		if err := sign.New([]*sign.Key{k}, sign.Options{}).Sign(copy); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		var out bytes.Buffer
		if _, err := copy.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasSuffix(out.Bytes(), src) {
			t.Fatalf("%s: the golden copy was changed", file)
		}
		if len(m.Fields("List-Unsubscribe-Post")) > 0 {
			count := map[string]int{}
			for _, name := range signedNames(t, out.String()) {
				count[name]++
			}
			for _, field := range []string{"from", "list-unsubscribe", "list-unsubscribe-post"} {
				if count[field] != 2 { // once for the field, once so that no second is put in
					t.Errorf("%s: h= names %s %d times, want 2", file, field, count[field])
				}
			}
		}
		path := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
		record = k.Record()
		names[k.Name()+" "+record+"\n"] = true
	}
	table = filepath.Join(dir, "public")
	var lines strings.Builder
	for line := range names {
		lines.WriteString(line)
	}
	if err := os.WriteFile(table, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return files, table, record
}

// signedNames is h= of the first signature, in lower case.
func signedNames(t *testing.T, msg string) []string {
	t.Helper()
	_, after, ok := strings.Cut(msg, " h=")
	if !ok {
		t.Fatalf("no h= in\n%s", msg[:min(len(msg), 1000)])
	}
	h, _, _ := strings.Cut(after, ";")
	return strings.Split(strings.ToLower(strings.Join(strings.Fields(h), "")), ":")
}

// tampered writes the file once more, with other words in its body.
func tampered(t *testing.T, file string) string {
	t.Helper()
	msg, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tampered.eml")
	if err := os.WriteFile(path, append(msg, "more\r\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func keys(t *testing.T) (*rsa.PrivateKey, ed25519.PrivateKey) {
	t.Helper()
	large, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, small, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return large, small
}

// mailauth verifies every golden copy, signed with RSA-2048 and with Ed25519.
func TestMailauth(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it fetches mailauth")
	}
	node, npm := needs(t, "node"), needs(t, "npm")
	dir := t.TempDir()
	install := exec.Command(npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir, "mailauth@"+mailauth)
	if said, err := finish(install); err != nil {
		t.Skipf("npm cannot fetch mailauth@%s here: %v %s", mailauth, err, tail(said, 3))
	}
	large, small := keys(t)
	for name, key := range map[string]any{"RSA-2048": large, "Ed25519": small} {
		files, _, record := signedCopies(t, key)
		broken := tampered(t, files[0])
		said, err := finish(exec.Command(node, append([]string{"mailauth_verify.js", filepath.Join(dir, "node_modules", "mailauth"), record, broken}, files...)...))
		if err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		for _, file := range files {
			if !strings.Contains(said, file+" pass\n") {
				t.Errorf("%s: %s does not verify", name, filepath.Base(file))
			}
		}
		if !strings.Contains(said, broken+" neutral(body hash did not verify)\n") {
			t.Errorf("%s: mailauth does not see a changed body, so it proves nothing", name)
		}
		if t.Failed() {
			t.Log(said)
		}
	}
}

// OpenDKIM verifies every golden copy signed with RSA-2048, and with Ed25519 where it is a build that
// knows that, as Debian's 2.11 is.
func TestOpenDKIM(t *testing.T) {
	t.Parallel()
	opendkim := needs(t, "opendkim")
	large, small := keys(t)
	for name, key := range map[string]any{"RSA-2048": large, "Ed25519": small} {
		if name == "Ed25519" {
			if version, err := finish(exec.Command(opendkim, "-V")); err != nil || !strings.Contains(version, "ed25519") {
				t.Logf("this OpenDKIM knows no Ed25519; only mailauth and go-msgauth verify those")
				continue
			}
		}
		files, table, _ := signedCopies(t, key)
		config := filepath.Join(t.TempDir(), "opendkim.conf")
		if err := os.WriteFile(config, []byte("Mode v\nTestPublicKeys "+table+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			said, err := finish(exec.Command(opendkim, "-x", config, "-t", file))
			if err != nil || !strings.Contains(said, "verification (s=gate") || !strings.Contains(said, "succeeded") {
				t.Errorf("%s: %s: %v %s", name, filepath.Base(file), err, said)
			}
		}
		if said, _ := finish(exec.Command(opendkim, "-x", config, "-t", tampered(t, files[0]))); strings.Contains(said, "succeeded") {
			t.Errorf("%s: OpenDKIM does not see a changed body, so it proves nothing: %s", name, said)
		}
	}
}
