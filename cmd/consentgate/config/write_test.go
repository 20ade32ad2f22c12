package config

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/consentgate/consentgate/consent/keyring"
)

var update = flag.Bool("update", false, "write deploy/consentgate.toml anew")

// exampleFile is the copy of the example that operators are given.
const exampleFile = "../../../deploy/consentgate.toml"

// live takes the # away from every key that is commented out, but in blocks that may be repeated.
func live(text string) string { return uncomment(text, false) }

func uncomment(text string, blocks bool) string {
	var out []string
	inside := false
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "#[[") {
			inside = true
		} else if strings.HasPrefix(line, "[") {
			inside = false
		}
		if strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "# ") && line != "#" && (blocks || !inside) {
			line = line[1:]
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// equal compares configurations; a list that is nil and one that is empty are the same.
func equal(t *testing.T, want, got *Config) {
	t.Helper()
	same := cmp.Comparer(func(a, b interface{ String() string }) bool { return a.String() == b.String() })
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), same); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestExampleFile(t *testing.T) {
	text := Write(Example())
	if *update {
		if err := os.WriteFile(exampleFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text, string(kept)); diff != "" {
		t.Errorf("%s is not what the code says; write it anew with -update (-code +file)\n%s", exampleFile, diff)
	}
}

// The example as it is, and with every key live, is the defaults.
func TestExampleIsTheDefault(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := keyring.Create(key); err != nil {
		t.Fatal(err)
	}
	want := Example()
	want.KeyFile = key
	for name, change := range map[string]func(string) string{"as it is": func(s string) string { return s }, "live": live} {
		t.Run(name, func(t *testing.T) {
			text := change(strings.Replace(Write(Example()), `"/var/lib/consentgate/key"`, `"`+key+`"`, 1))
			got, err := load(t, text, nil)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, want, got)
		})
	}
}

// Every key stands in the file once, with something said of it, and nothing is said of keys that there are not. What
// is said of an enumeration names each of its values.
func TestEveryKeyIsThere(t *testing.T) {
	lines := locate(uncomment(Write(Example()), true))
	known := map[string]bool{}
	var each func(path string, v reflect.Type)
	each = func(path string, v reflect.Type) {
		for i := range v.NumField() {
			field := v.Field(i)
			key := join(path, field.Tag.Get("toml"))
			known[key] = true
			at := strings.NewReplacer("login.", "login[0].", "dkim.key.", "dkim.key[0].").Replace(key)
			if lines[at] == 0 {
				t.Errorf("%s is not in the file", key)
			}
			if docs[key] == "" {
				t.Errorf("nothing is said of %s; add it to docs", key)
			}
			for one := range strings.FieldsSeq(field.Tag.Get("oneof")) {
				if !strings.Contains(docs[key], `"`+one+`"`) {
					t.Errorf("docs of %s do not name %q", key, one)
				}
			}
			inner := field.Type
			if inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct && inner != whenUnsetType && inner != prefixType {
				each(key, inner)
			}
		}
	}
	each("", reflect.TypeFor[Config]())
	for key := range docs {
		if !known[key] {
			t.Errorf("docs speak of %s, which is no key", key)
		}
	}
}

// What is written is read again as it was, whatever stands in it.
func TestWriteRoundTrip(t *testing.T) {
	_, env := fixture(t)
	writeCertificate(t, env["STATE"])
	c := Example()
	c.KeyFile = env["STATE"] + "/key"
	c.SMTP.TLSCert, c.SMTP.TLSKey = env["STATE"]+"/cert.pem", env["STATE"]+"/key.pem"
	c.SMTP.IdleTimeout = 90 * time.Second
	c.SMTP.MaxRecipients = 7
	l := blocks["login"].(Login)
	l.PasswordHash = "$2a$04$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"
	c.Login = []Login{l, {Name: "a \"b\" \\c ü", PasswordHash: l.PasswordHash}}
	c.Smarthost.HeadersWithoutOpen = map[string]string{"X-Track": "say \"no\"", "X-Other.Field": "1"}
	c.Consent.WhenUnset.Click = "granted"
	c.Rewrite.Observe = true
	c.Unsubscribe.Company = "Müller & \"Söhne\" \\ 'x' # = [y]"
	c.DKIM.Key = []DKIMKey{{Domain: "example.org", Selector: "a", KeyFile: env["STATE"] + "/key.pem"}, {Domain: "example.org", Selector: "b", KeyFile: env["STATE"] + "/other.pem"}}
	got, err := load(t, Write(c), env)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, c, got)
	if n := strings.Count(Write(c), "\n[[login]]\n"); n != 2 {
		t.Errorf("%d blocks of logins", n)
	}
}

func TestShortDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", time.Second: "1s", 90 * time.Second: "1m30s", time.Hour: "1h", 90 * time.Minute: "1h30m", 8760 * time.Hour: "8760h", time.Hour + time.Second: "1h0m1s", 10 * time.Second: "10s", 20 * time.Minute: "20m"} {
		if got := shortDuration(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
		if back, err := time.ParseDuration(shortDuration(d)); err != nil || back != d {
			t.Errorf("%v is read as %v, %v", d, back, err)
		}
	}
}

func TestTOMLString(t *testing.T) {
	for _, want := range []string{"", "a\tb\r\nc\x00\x7f", `"\`, "ü€😀"} {
		var got struct{ Key string }
		if _, err := toml.Decode("key = "+tomlString(want), &got); err != nil || got.Key != want {
			t.Errorf("%q is read as %q, %v", want, got.Key, err)
		}
	}
}
