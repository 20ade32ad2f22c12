package config

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
)

const secret = "correct-horse-battery"

// fixture is a file with every key live, and an environment for it.
func fixture(t *testing.T) (text string, env map[string]string) {
	t.Helper()
	c := Example()
	c.KeyFile = "${STATE}/key"
	c.Smarthost.Username, c.Smarthost.Password = "gate", "${SMARTHOST_PASSWORD}"
	c.Rewrite.AllowHosts = []string{"img.example.org"}
	c.Unsubscribe.Company = "Example Shop"
	state := t.TempDir()
	if err := keyring.Create(filepath.Join(state, "key")); err != nil {
		t.Fatal(err)
	}
	return live(Write(c)), map[string]string{"STATE": state, "SMARTHOST_PASSWORD": secret, "EMPTY": "", "SEVEN": "7", "TEXT": "seven"}
}

// load writes text to a file and loads it.
func load(t *testing.T, text string, env map[string]string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "consentgate.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
}

// writeCertificate makes cert.pem with its key.pem, and other.pem, a key of another.
func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"gate.example.org"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}}
	for name, key := range map[string]ed25519.PrivateKey{"key.pem": private, "other.pem": other} {
		text, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		blocks[name] = &pem.Block{Type: "PRIVATE KEY", Bytes: text}
	}
	for name, block := range blocks {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What senders connect to, in full.
func TestSMTP(t *testing.T) {
	_, env := fixture(t)
	writeCertificate(t, env["STATE"])
	env["HASH"] = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$TnDEl2tJgYtaYZt0/5f59Jf56vkIG4EtQACv6SLO2cI"
	got, err := load(t, minimal+`[smtp]
listen = []
listen_tls = [":465", "systemd:smtps"]
listen_lmtp = ["unix:/run/consentgate/lmtp"]
tls_cert = "${STATE}/cert.pem"
tls_key = "${STATE}/key.pem"
proxy_protocol_from = ["10.0.0.1/32"]
[[login]]
name = "shop"
password_hash = "${HASH}"
scopes = ["newsletter", "orders"]
classes = ["marketing"]
from_domains = ["Shop.example", "bücher.example"]
[[login]]
name = "crm"
password_hash = "$2a$04$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"
`, env)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Login{
		{Name: "shop", PasswordHash: env["HASH"], Scopes: []consent.Scope{"newsletter", "orders"}, Classes: []consent.Class{consent.Marketing}, FromDomains: []string{"shop.example", "xn--bcher-kva.example"}},
		{Name: "crm", PasswordHash: "$2a$04$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"},
	}, got.Login); diff != "" {
		t.Error(diff)
	}
	s := got.SMTP
	if len(s.Listen) != 0 || len(s.ListenTLS) != 2 || len(s.ListenLMTP) != 1 || len(s.ProxyProtocolFrom) != 1 || s.TLSCert != env["STATE"]+"/cert.pem" {
		t.Errorf("%+v", s)
	}
}

func TestValues(t *testing.T) {
	for _, tt := range []struct {
		key, value string
		get        func(*Config) any
		want       any
	}{
		{"when_unset", `"granted"`, func(c *Config) any { return c.Consent.WhenUnset }, WhenUnset{consent.Granted, consent.Granted}},
		{"when_unset", `{ click = "granted" }`, func(c *Config) any { return c.Consent.WhenUnset }, WhenUnset{consent.Denied, consent.Granted}},
		{"base_url", `"https://mail.example.org/consent//"`, func(c *Config) any { return c.Unsubscribe.BaseURL }, "https://mail.example.org/consent"},
		{"base_url", `"http://127.0.0.1:8080/"`, func(c *Config) any { return c.Unsubscribe.BaseURL }, "http://127.0.0.1:8080"},
		{"base_url", `"http://localhost:8080"`, func(c *Config) any { return c.Unsubscribe.BaseURL }, "http://localhost:8080"},
		{"default_scope", `"NewsLetter"`, func(c *Config) any { return c.Consent.DefaultScope }, consent.Scope("newsletter")},
		{"idle_timeout", `"90s"`, func(c *Config) any { return c.SMTP.IdleTimeout }, 90 * time.Second},
		{"max_recipients", `"${SEVEN}"`, func(c *Config) any { return c.SMTP.MaxRecipients }, 7},
		{"company", `"${SEVEN} of ${SEVEN}${EMPTY}"`, func(c *Config) any { return c.Unsubscribe.Company }, "7 of 7"},
		{"company", `"$${SEVEN} $${ ${SEVEN} $$${SEVEN}"`, func(c *Config) any { return c.Unsubscribe.Company }, "${SEVEN} ${ 7 $${SEVEN}"},
		{"company", `"$7 and $SEVEN"`, func(c *Config) any { return c.Unsubscribe.Company }, "$7 and $SEVEN"},
		{"mailto", `"unsubscribe@gate.example.org"`, func(c *Config) any { return c.Unsubscribe.MailTo }, "unsubscribe@gate.example.org"},
		{"webhook_url", `"https://user:pass@hook.example.org/x?y=z"`, func(c *Config) any { return c.Unsubscribe.WebhookURL }, "https://user:pass@hook.example.org/x?y=z"},
		{"webhook_url", `"http://receiver:8000/"`, func(c *Config) any { return c.Unsubscribe.WebhookURL }, "http://receiver:8000/"},
		{"webhook_url", `"http://10.1.2.3/"`, func(c *Config) any { return c.Unsubscribe.WebhookURL }, "http://10.1.2.3/"},
		{"webhook_events", `["accepted", "suppressed"]`, func(c *Config) any { return c.Unsubscribe.WebhookEvents }, []string{"accepted", "suppressed"}},
		{"chain", `false`, func(c *Config) any { return c.Unsubscribe.Chain }, false},
		{"allow_hosts", `["CDN.Example.org", "*.img.example.org"]`, func(c *Config) any { return c.Rewrite.AllowHosts }, []string{"cdn.example.org", "*.img.example.org"}},
		{"store", `"file:consent.db"`, func(c *Config) any { return c.StoreFile() }, "consent.db"},
		{"store", `"file:///var/lib/c.db"`, func(c *Config) any { return c.StoreFile() }, "/var/lib/c.db"},
		{"store", `"redis://127.0.0.1:6379/3"`, func(c *Config) any { return c.StoreFile() }, ""},
		{"store", `"rediss://user:p%40ss@redis.example.org"`, func(c *Config) any { return c.Consent.Store }, "rediss://user:p%40ss@redis.example.org"},
		{"store", `"redis+sentinel://user:p%40ss@a.example.org:26379,b.example.org:26379/people?db=1"`, func(c *Config) any { return c.StoreFile() }, ""},
		{"store", `"rediss+cluster://a.example.org:6379,b.example.org:6379"`, func(c *Config) any { return c.StoreFile() }, ""},
		{"store", `"redis+unix:///run/redis.sock?db=0"`, func(c *Config) any { return c.StoreFile() }, ""},
		{"urls", `["smtps://a.example.org", "smtp+starttls://b.example.org:587", "smtp://[::1]:25/"]`, func(c *Config) any { return len(c.Smarthost.URLs) }, 3},
		{"urls", `["lmtp://127.0.0.1:24", "lmtp://a.example.org", "lmtp+unix:///run/lmtp"]`, func(c *Config) any { return len(c.Smarthost.URLs) }, 3},
		{"max_per_second", `50`, func(c *Config) any { return c.Smarthost.MaxPerSecond }, 50},
		{"classes", `["Transactional"]`, func(c *Config) any { return c.SMTP.Classes }, []consent.Class{consent.Transactional}},
	} {
		t.Run(tt.key+"="+tt.value, func(t *testing.T) {
			text, env := fixture(t)
			text, _ = replace(t, text, tt.key, tt.value)
			c, err := load(t, text, env)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, tt.get(c)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// replace puts another value behind the first key of that name (or table.key) and returns the
// line of it.
func replace(t *testing.T, text, key, value string) (string, int) {
	t.Helper()
	table, key, dotted := strings.Cut(key, ".")
	if !dotted {
		table, key = "", table
	}
	lines := strings.Split(text, "\n")
	inside := table == ""
	for i, line := range lines {
		if strings.HasPrefix(line, "[") {
			inside = table == "" || strings.HasPrefix(line, "["+table+"]")
		}
		if inside && strings.HasPrefix(line, key+" = ") {
			lines[i] = key + " = " + value
			if value == "" {
				lines[i] = ""
			}
			return strings.Join(lines, "\n"), i + 1
		}
	}
	t.Fatalf("no %s in the example", key)
	return "", 0
}

// Each key wrong in each way: the value, and what the mistake says.
func TestMistakes(t *testing.T) {
	text, env := fixture(t)
	for _, tt := range []struct{ key, value, want string }{
		{"hostname", `7`, `is a whole number; write text between quotes`},
		{"hostname", `""`, `is needed and empty; hostname = "gate.example.org"`},
		{"hostname", `"gate example"`, `"gate example" is not a host name; a full name such as "gate.example.org"`},
		{"hostname", `"-gate.example.org"`, `is not a host name`},
		{"hostname", `"${NOBODY}"`, `the environment variable NOBODY is not set; set it for this program, or write the value into the file`},
		{"hostname", `"${NO BODY}"`, `holds ${ that does not begin a variable; ${NAME} with a name of letters, digits and underscores, or $${ for a ${ that is meant as it stands`},
		{"hostname", `"${NOBODY"`, `holds ${ that does not begin a variable`},
		{"key_file", `"/nowhere/key"`, `key file /nowhere/key does not exist: make one with "consentgate keygen /nowhere/key", or bring back the one that the store was begun with`},
		{"key_file", `"/"`, `is not a regular file`},

		{"smtp.listen", `"127.0.0.1:2525"`, `is text; write a list, such as ["one", "two"]`},
		{"smtp.listen", `[]`, `is empty, so no sender could connect`},
		{"smtp.listen", `[2525]`, `is a whole number; write text between quotes`},
		{"smtp.listen", `["2525"]`, `"2525" is not host:port`},
		{"smtp.listen", `["127.0.0.1:99999"]`, `is not host:port`},
		{"smtp.listen", `["127.0.0.1:smtp"]`, `is not host:port`},
		{"smtp.listen", `["unix:run/socket"]`, `is not an absolute path that fits a socket`},
		{"smtp.listen", `["systemd:"]`, `"systemd:" names no socket of systemd; "systemd:NAME", NAME being the FileDescriptorName= of the socket unit`},
		{"smtp.listen", `["127.0.0.1:25", "127.0.0.1:25"]`, `"127.0.0.1:25" is the address of smtp.listen too`},
		{"listen_tls", `["127.0.0.1:465"]`, `needs a certificate; add tls_cert and tls_key under [smtp]`},
		{"listen_tls", `["465"]`, `"465" is not host:port`},
		{"listen_lmtp", `["unix:lmtp"]`, `"unix:lmtp" is not an absolute path that fits a socket`},
		{"listen_lmtp", `["127.0.0.1:2525"]`, `"127.0.0.1:2525" is the address of smtp.listen too`},
		{"allow_networks", `["10.0.0.1"]`, `"10.0.0.1" is not a network; "10.0.0.1/32"`},
		{"allow_networks", `["::1"]`, `"::1" is not a network; "::1/128"`},
		{"allow_networks", `["ten/8"]`, `"ten/8" is not a network; an address and the length of its prefix, such as "10.0.0.0/8"`},
		{"allow_networks", `["10.0.0.1/8"]`, `"10.0.0.1/8" has bits set behind its prefix; "10.0.0.0/8" for the network, or "10.0.0.1/32" for the one address`},
		{"allow_networks", `["0.0.0.0/0"]`, `is the whole internet, which would make an open relay`},
		{"allow_networks", `["::/0"]`, `open relay`},
		{"proxy_protocol_from", `["10.0.0.1"]`, `"10.0.0.1" is not a network; "10.0.0.1/32"`},
		{"proxy_protocol_from", `["0.0.0.0/0"]`, `"0.0.0.0/0" is the whole internet, so anybody could claim to come from anywhere`},
		{"proxy_protocol_from", `["::/0"]`, `anybody could claim`},
		{"max_message_bytes", `"50M"`, `is text; write a whole number, without quotes`},
		{"max_message_bytes", `5.5`, `is a number with a fraction`},
		{"max_message_bytes", `-1`, `-1 is out of range; 1024 to 1073741824`},
		{"max_message_bytes", `"${TEXT}"`, `is not a whole number once the variable is put in`},
		{"max_recipients", `0`, `0 is out of range; 1 to 100000`},
		{"classes", `[]`, `is empty, so no mail could be sent`},
		{"classes", `["bulk"]`, `"bulk" is not a class; "marketing" or "transactional"`},
		{"smtp.max_connections", `0`, `out of range`},
		{"idle_timeout", `300`, `is a whole number; write a duration with its unit between quotes, such as "30s"`},
		{"idle_timeout", `"5 minutes"`, `"5 minutes" is not a duration; a number with its unit, such as "30s", "5m" or "120h"`},
		{"idle_timeout", `"0s"`, `"0s" is out of range; 1s to 1h`},

		{"urls", `[]`, `is needed and empty`},
		{"urls", `"smtp://127.0.0.1:25"`, `is text; write a list`},
		{"urls", `["127.0.0.1:25"]`, `this is not a URL; smtp://host:port`},
		{"urls", `["http://127.0.0.1:25"]`, `this begins with no scheme that is known`},
		{"urls", `["smtp://"]`, `this names no host; smtp://host:port`},
		{"urls", `["smtp://a.example.org:0"]`, `the port is not from 1 to 65535`},
		{"urls", `["smtp://a.example.org:"]`, `the port is empty`},
		{"urls", `["smtp://gate:` + secret + `@a.example.org"]`, `a user does not belong into the URL; the keys username and password`},
		{"urls", `["smtp://gate:` + secret + `%zz@a.example.org"]`, `this is not a URL`},
		{"urls", `["smtp://a.example.org/x"]`, `something follows the host and port`},
		{"urls", `["smtp+unix:///run/smtp"]`, `this begins with no scheme that is known`},
		{"urls", `["lmtp://127.0.0.1:0"]`, `the port is not from 1 to 65535`},
		{"urls", `["lmtp+unix://run/lmtp"]`, `this is not the whole path of a socket; lmtp+unix:///path`},
		{"urls", `["lmtp+unix:///"]`, `this is not the whole path of a socket`},
		{"urls", `["lmtp+unix:///run/lmtp?x"]`, `this is not the whole path of a socket`},
		{"urls", `["lmtp+unix:run/lmtp"]`, `this is not the whole path of a socket`},
		{"urls", `["lmtp+unix:///` + strings.Repeat("x", 103) + `"]`, `the path of a socket has at most 103 bytes`},
		{"username", `""`, ``},
		{"smarthost.password", `""`, `is missing beside smarthost.username; password = "${SMARTHOST_PASSWORD}"`},
		{"smarthost.password", `12345678`, `is a whole number; write text between quotes`},
		{"smarthost.max_connections", `0`, `out of range`},
		{"max_per_second", `-5`, `out of range`},
		{"connect_timeout", `"1h"`, `"1h" is out of range; 1s to 10m`},
		{"provider", `"ses"`, `"ses" needs ses_untracked_configuration_set`},
		{"keep_copies_for", `"seed"`, `is no mail address`},
		{"provider", `"sendgird"`, `"sendgird" is not a value of this key; one of mailjet, mailgun, sendgrid, mandrill, postmark, ses, sparkpost; did you mean "sendgrid"?`},
		{"headers_without_open", `{ "X Track" = "no" }`, `is not the name of a header field`},
		{"headers_without_open", `{ List-Unsubscribe = "no" }`, `or that the gateway writes`},
		{"headers_without_open", `{ X-Track = "no\nno" }`, `is not what a header field can hold`},
		{"headers_without_open", `"X-Track"`, `is text; write a table`},
		{"headers_without_click", `{ X-Track = 0 }`, `is a whole number`},
		{"ses_untracked_configuration_set", `"none"`, `is not "ses"`},

		{"delivery.mode", `"stateles"`, `did you mean "stateless"?`},
		{"spool_dir", `""`, `is empty`},
		{"spool_dir", `"${STATE}/key"`, `is no folder`},
		{"retry_for", `"1s"`, `out of range`},
		{"first_retry", `"5h"`, `out of range`},
		{"retry_for_transactional", `"1s"`, `out of range`},

		{"store", `""`, `this begins with no scheme`},
		{"store", `"file:"`, `this names no file`},
		{"store", `"file:/"`, `this names no file`},
		{"store", `"redis://:` + secret + `%zz@127.0.0.1"`, `is no URL`},
		{"store", `"redis:///0"`, `this names no host`},
		{"store", `"redis://127.0.0.1/zero"`, `database`},
		{"store", `"redis+sentinel://127.0.0.1"`, `names no master`},
		{"store", `"redis+sentinel://127.0.0.1:26379,127.0.0.2:26379/people?db=1&sentinel_password=x"`, ``},
		{"store", `"rediss+sentinel://gate:secret@127.0.0.1:26379/people"`, ``},
		{"store", `"redis+cluster://127.0.0.1:7000,127.0.0.1:7001"`, ``},
		{"store", `"redis+cluster://127.0.0.1/1"`, `a cluster has one database`},
		{"store", `"redis+unix:///run/redis/redis.sock?db=2"`, ``},
		{"store", `"redis://127.0.0.1,127.0.0.2"`, `several hosts`},
		{"store", `"redis://127.0.0.1?nonsense=1"`, `nonsense`},
		{"store", `"rediss://127.0.0.1?tls_ca=/none"`, `tls_ca`},
		{"store", `"mysql://127.0.0.1"`, `the scheme is not known`},
		{"when_unset", `"unset"`, `"unset" is not a value of this key; "denied", "granted", or { open = "denied", click = "denied" }`},
		{"when_unset", `true`, `is true or false; write "denied"`},
		{"when_unreachable", `"send"`, `"send" is not a value of this key; one of defer, untracked`},
		{"wait_replicas", `1000`, `out of range`},
		{"cache", `"10s"`, ``},
		{"cache", `"0s"`, ``},
		{"cache", `"2h"`, `"2h" is out of range; 0s to 1h`},
		{"default_scope", `"two words"`, `"two words" is not a scope`},
		{"default_scope", `"*"`, `"*" is not a scope`},
		{"default_scope", `""`, `is not a scope`},
		{"history_retention", `"1h"`, `out of range`},

		{"images", `"none"`, `one of trackers, all-remote`},
		{"opaque_links", `""`, `is needed and empty; opaque_links = "keep"`},
		{"opaque_links", `"drop"`, `"drop" is not a value of this key; one of keep, unlink, reject`},
		{"identifiers", `"Strip"`, `one of strip, keep; did you mean "strip"?`},
		{"rules_file", `"/nowhere/rules.toml"`, `no such file`},
		{"rules_file", `"."`, `is no regular file`},
		{"observe", `"yes"`, `is text; write true or false, without quotes`},
		{"observe", `"${TEXT}"`, `is not true or false once the variable is put in`},
		{"allow_hosts", `["https://img.example.org/"]`, `is not a host; a name alone, such as "img.example.org", without https:// and path`},
		{"tracker_hosts", `["IMG.example.org"]`, ``},

		{"unsubscribe.base_url", `""`, `is needed and empty`},
		{"unsubscribe.base_url", `"mail.example.org"`, `"mail.example.org" is not a URL with a host; "https://mail.example.org"`},
		{"unsubscribe.base_url", `"http://mail.example.org"`, `is http; https, which RFC 8058 asks for`},
		{"unsubscribe.base_url", `"ftp://mail.example.org"`, `is not https`},
		{"unsubscribe.base_url", `"https://mail.example.org/?a=b"`, `has a query or a fragment`},
		{"unsubscribe.base_url", `"https://mail.example.org/#a"`, `has a query or a fragment`},
		{"unsubscribe.base_url", `"https://u:p@mail.example.org/"`, `holds a user`},
		{"unsubscribe.base_url", `"https://mail.example.org/<b>"`, `holds a character that does not go into a header field`},
		{"unsubscribe.listen", `"8080"`, `is not host:port`},
		{"trusted_proxies", `["10.0.0.0/8", "0.0.0.0/0"]`, `is the whole internet`},
		{"trusted_proxies", `["10.0.0.1"]`, ``},
		{"unsubscribed", `"bounce"`, `one of reject, discard`},
		{"mailto", `"unsubscribe"`, `is not a plain mail address`},
		{"mailto", `"mailto:unsubscribe@gate.example.org"`, `is not a plain mail address`},
		{"mailto", `"unsubscribe@gate.example.org?subject=x"`, `is not a plain mail address`},
		{"mailto", `"Käthe@gate.example.org"`, `is not a plain mail address`},
		{"footer_html", `"/nowhere/footer.html"`, `no such file`},
		{"footer_text", `"/"`, `is no regular file, or over 1 MiB`},
		{"webhook_url", `"hook.example.org"`, `this is not a URL with a host`},
		{"webhook_url", `"https:///x"`, `this is not a URL with a host`},
		{"webhook_url", `"https://hook.example.org:0/"`, `the port is not from 1 to 65535`},
		{"webhook_url", `"https://hook.example.org/#x"`, `something follows a #`},
		{"webhook_url", `"http://hook.example.org/"`, `this is http`},
		{"webhook_url", `"http://8.8.8.8/"`, `this is http`},
		{"webhook_url", `"ftp://hook.example.org/"`, `this is not https`},
		{"webhook_events", `["change", "opened"]`, `is nothing that is told`},
		{"company", `"one\ntwo"`, `is no name`},
		{"logo_file", `"/nowhere/logo.png"`, `no such file`},
		{"logo_file", `"${STATE}/key"`, `is neither PNG, JPEG, GIF, WebP nor a well-formed SVG`},
		{"colour", `"red"`, `"red" is not a colour; "#rrggbb"`},
		{"colour", `"#fc0"`, ``},
		{"notice_file", `"/nowhere/notice"`, `no such file`},
		{"notice_file", `"${STATE}/key"`, `its first line is not a version`},
		{"confirm_grants", `"no"`, `is text; write true or false`},
		{"footer_position", `"left"`, `one of auto, bottom, top`},

		{"tracking.mode", `"guard"`, `"guard" needs tracking.base_url; base_url = "https://links.example.org"`},
		{"tracking.mode", `"watch"`, `one of keep, guard`},
		{"tracking.base_url", `"t.example.org"`, `is not a URL with a host`},
		{"tracking.base_url", `"http://t.example.org"`, `is http; https; http only for a loopback host, in a trial`},
		{"tracking.base_url", `"https://MAIL.example.org/t"`, `is on the host of unsubscribe.base_url`},
		{"forward_address", `"some"`, `one of none, truncated, full`},

		{"dkim.domain", `"example.org"`, ``},
		{"dkim.selector", `"gate"`, `is set but dkim.domain is empty, so nothing would be signed`},
		{"dkim.key_file", `"/dkim.pem"`, `is set but dkim.domain is empty`},

		{"admin.listen", `"0.0.0.0:8081"`, `"0.0.0.0:8081" is not a loopback address, and there is no admin.token_file`},
		{"admin.listen", `":8081"`, `is not a loopback address`},
		{"admin.listen", `"127.0.0.1:8080"`, `"127.0.0.1:8080" is the address of unsubscribe.listen too; an address of its own`},
		{"token_file", `"/nowhere/tokens"`, `no such file`},
		{"token_file", `"."`, `is no regular file`},
		{"level", `"trace"`, `one of debug, info, warn, error`},
		{"format", `"xml"`, `one of text, json`},
		{"addresses", `"none"`, `one of masked, full`},
	} {
		if tt.want == "" {
			continue
		}
		t.Run(tt.key+"="+tt.value, func(t *testing.T) {
			changed, line := replace(t, text, tt.key, tt.value)
			_, err := load(t, changed, env)
			var all Mistakes
			if !errors.As(err, &all) {
				t.Fatalf("no mistakes but %v", err)
			}
			if len(all) != 1 {
				t.Errorf("%d mistakes, want one:\n%v", len(all), err)
			}
			m := all[0]
			if m.Line != line {
				t.Errorf("line %d, want %d: %v", m.Line, line, m)
			}
			if _, last, _ := cutLast(m.Key); last != tt.key && m.Key != tt.key && !strings.HasPrefix(m.Key, "smarthost.headers_without_") {
				t.Errorf("key %s, want %s", m.Key, tt.key)
			}
			if said := m.Wrong + "; " + m.Right; !strings.Contains(said, tt.want) {
				t.Errorf("says %q\nwant %q", said, tt.want)
			}
			if strings.Contains(m.Key+m.Wrong+m.Right, secret) {
				t.Errorf("shows a secret: %v", err)
			}
			if want := all[0].File + ":" + strconv.Itoa(line) + ": "; !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%q does not begin with %q", err, want)
			}
		})
	}
}

// Whole files: every mistake is told, in the order of the lines.
func TestEveryMistakeIsTold(t *testing.T) {
	_, env := fixture(t)
	const hash = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$TnDEl2tJgYtaYZt0/5f59Jf56vkIG4EtQACv6SLO2cI"
	env["HASH"] = hash
	writeCertificate(t, env["STATE"])
	if err := os.WriteFile(filepath.Join(env["STATE"], "logo.gif"), []byte("GIF89a"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"empty": {"", []string{
			`1: hostname: is needed and missing; add hostname = "gate.example.org"`,
			`1: key_file: is needed and missing; add key_file = "/var/lib/consentgate/key", made by: consentgate keygen FILE`,
			`1: rewrite.opaque_links: is needed and missing; add [rewrite] with opaque_links = "keep" (it still counts), "unlink" (the text stays) or "reject" (550)`,
			`1: smarthost.urls: is needed and missing; add [smarthost] with urls = ["smtp://127.0.0.1:25"]`,
			`1: unsubscribe.base_url: is needed and missing; add [unsubscribe] with base_url = "https://mail.example.org", the public address of the page`,
		}},
		"many": {`hostnam = "gate.example.org"
key_file = "${STATE}/key"
url = 1
[smtp]
listen = [
  "127.0.0.1:2525",
  "nonsense",
]
base_url = "https://mail.example.org"
[smarthost]
password = "${SMARTHOST_PASSWORD}"
[[login]]
name = "shop"
pasword_hash = "x"
[[login]]
name = "crm"
password_hash = 7
[delivery]
mode = "stateless"
[rewrite]
opaque_links = "keep"
[unsubscribe]
base_url = "https://mail.example.org"
[tables]
a = 1
[[dkim.key]]
domain = "example.org"
`, []string{
			`1: hostnam: unknown key; did you mean hostname?`,
			`1: hostname: is needed and missing; add hostname = "gate.example.org"`,
			`3: url: unknown key; remove it`,
			`7: smtp.listen: "nonsense" is not host:port; such as "127.0.0.1:2525", a port from 0 to 65535`,
			`9: smtp.base_url: unknown key; it belongs into [unsubscribe]`,
			`10: smarthost.urls: is needed and missing; add urls = ["smtp://127.0.0.1:25"]`,
			`10: smarthost.username: is missing beside smarthost.password; both, or neither`,
			`12: login: nobody could log in, since that is offered under TLS only; add tls_cert and tls_key under [smtp]`,
			`12: login.password_hash: is needed and missing; add password_hash = "$argon2id$…"`,
			`14: login.pasword_hash: unknown key; did you mean password_hash?`,
			`17: login.password_hash: is a whole number; write text between quotes`,
			`24: tables: unknown key; remove it`,
			`26: dkim.key.key_file: is needed and missing; add key_file = "/etc/consentgate/dkim.pem"`,
			`26: dkim.key.selector: is needed and missing; add selector = "gate"`,
		}},
		"login without TLS": {minimal + "[[login]]\nname = \"shop\"\npassword_hash = \"" + hash + "\"\n", []string{
			`13: login: nobody could log in, since that is offered under TLS only; add tls_cert and tls_key under [smtp]`,
		}},
		"logins": {strings.Replace(minimal, "[smarthost]", "[smtp]\nclasses = [\"marketing\"]\ntls_cert = \"${STATE}/cert.pem\"\ntls_key = \"${STATE}/key.pem\"\n[smarthost]", 1) + `[[login]]
name = "shop"
password_hash = "${HASH}"
scopes = ["a scope"]
classes = ["transactional"]
from_domains = ["shop.example", "two words", "https://shop.example", "*.shop.example"]
[[login]]
name = "shop"
password_hash = "secret"
[[login]]
name = ""
password_hash = "${SMARTHOST_PASSWORD}"
`, []string{
			`20: login.scopes: "a scope" is not a scope; 1 to 128 letters, digits, dots, hyphens and underscores`,
			`21: login.classes: "transactional" is not in smtp.classes, which a login can only narrow; one of those, or add it there`,
			`22: login.from_domains: "two words" is not a domain; such as "shop.example"; one below it is named by itself`,
			`22: login.from_domains: "https://shop.example" is not a domain; such as "shop.example"; one below it is named by itself`,
			`22: login.from_domains: "*.shop.example" is not a domain; such as "shop.example"; one below it is named by itself`,
			`24: login.name: "shop" is the name of another login too; a name of its own`,
			`25: login.password_hash: this is no argon2id or bcrypt hash; what consentgate hash-password prints`,
			`27: login.name: is needed and empty; name = "shop"`,
			`28: login.password_hash: this is no argon2id or bcrypt hash; what consentgate hash-password prints`,
		}},
		"page's key alone": {minimal + "tls_key = \"${STATE}/key.pem\"\n", []string{
			`11: unsubscribe.tls_cert: is missing beside unsubscribe.tls_key; the PEM file of the certificate and its chain`,
		}},
		"logo without a name": {minimal + "logo_file = \"${STATE}/logo.gif\"\n", []string{
			`13: unsubscribe.logo_file: needs unsubscribe.company, which is read out to those who do not see the logo; company = "Example Shop"`,
		}},
		"key alone": {strings.Replace(minimal, "[smarthost]", "[smtp]\ntls_key = \"${STATE}/key.pem\"\n[smarthost]", 1), []string{
			`3: smtp.tls_cert: is missing beside smtp.tls_key; the PEM file of the certificate and its chain`,
		}},
		"certificate alone": {strings.Replace(minimal, "[smarthost]", "[smtp]\ntls_cert = \"${STATE}/cert.pem\"\n[smarthost]", 1), []string{
			`3: smtp.tls_key: is missing beside smtp.tls_cert; the PEM file of the private key`,
		}},
		"no such certificate": {strings.Replace(minimal, "[smarthost]", "[smtp]\ntls_cert = \"/nowhere/cert.pem\"\ntls_key = \"${STATE}/key.pem\"\n[smarthost]", 1), []string{
			`4: smtp.tls_cert: stat /nowhere/cert.pem: no such file or directory; a PEM file that consentgate may read`,
		}},
		"not a certificate": {strings.Replace(minimal, "[smarthost]", "[smtp]\ntls_cert = \"docs.go\"\ntls_key = \"docs.go\"\n[smarthost]", 1), []string{
			`4: smtp.tls_cert: failed to find any PEM data in certificate input, in docs.go with docs.go; a certificate in PEM, its chain behind it, and the key that belongs to it`,
		}},
		"another's key": {strings.Replace(minimal, "[smarthost]", "[smtp]\nlisten_tls = [\"127.0.0.1:465\"]\ntls_cert = \"${STATE}/cert.pem\"\ntls_key = \"${STATE}/other.pem\"\n[smarthost]", 1), []string{
			`5: smtp.tls_cert: private key does not match public key, in STATE/cert.pem with STATE/other.pem; a certificate in PEM, its chain behind it, and the key that belongs to it`,
		}},
		"guard below the page": {strings.Replace(minimal, "mail.example.org", "mail.example.org/t/x", 1) + "[tracking]\nmode = \"guard\"\nbase_url = \"https://links.example.org\"\n", []string{
			`12: unsubscribe.base_url: its path is below /t/, which is the guard's on the same listener; another path`,
		}},
		"guard": {minimal + "[tracking]\nmode = \"guard\"\nbase_url = \"https://mail.example.org:8443/t/\"\n", []string{
			`15: tracking.base_url: "https://mail.example.org:8443/t/" is on the host of unsubscribe.base_url, whose reputation is not to hang on counted links; a host of its own, such as "https://links.example.org"`,
		}},
		"dkim":  {minimal + "[dkim]\ndomain = \"example.org\"\n", []string{`13: dkim.key_file: is missing beside dkim.domain; the PEM file of the private key`, `13: dkim.selector: is missing beside dkim.domain; selector = "gate", for gate._domainkey.example.org`}},
		"hosts": {strings.Replace(minimal, "[rewrite]", "[rewrite]\nallow_hosts = [\"a.example.org\"]\ntracker_hosts = [\"A.example.org\"]", 1), []string{`9: rewrite.allow_hosts: "a.example.org" is in tracker_hosts as well; one of the two`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, tt.text, env)
			var all Mistakes
			if !errors.As(err, &all) {
				t.Fatalf("no mistakes but %v", err)
			}
			var got []string
			for _, m := range all {
				_, rest, _ := strings.Cut(m.Error(), ".toml:")
				got = append(got, strings.ReplaceAll(rest, env["STATE"], "STATE"))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

const minimal = `hostname = "gate.example.org"
key_file = "${STATE}/key"
[smarthost]
urls = ["smtp://127.0.0.1:25"]
[delivery]
mode = "stateless"

[rewrite]
opaque_links = "keep"

[unsubscribe]
base_url = "https://mail.example.org"
`

func TestGuard(t *testing.T) {
	_, env := fixture(t)
	c, err := load(t, minimal+"[tracking]\nmode = \"guard\"\nbase_url = \"https://links.example.org/x/\"\nforward_address = \"truncated\"\n", env)
	if err != nil || c.Tracking.BaseURL != "https://links.example.org/x" || c.Tracking.ForwardAddress != "truncated" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestMinimal(t *testing.T) {
	_, env := fixture(t)
	if _, err := load(t, minimal, env); err != nil {
		t.Error(err)
	}
}

// A syntax error ends the reading. What stands in the file is not quoted: it may be a
// password that somebody forgot to put between quotes.
func TestSyntax(t *testing.T) {
	for text, want := range map[string]string{
		"a = 1\n[smarthost]\npassword = " + secret + "\n":          `3: smarthost.password: not a value; text stands between quotes: "…"`,
		"a = 1\n[smarthost]\npassword = \"" + secret + "\n":        `3: smarthost.password: strings cannot contain newlines`,
		"[smarthost]\npassword = 'correct' horse-battery\n":        `2: smarthost: more follows the value on this line; one key a line, and text between quotes: "…"`,
		"hostname = \"a\"\nhostname = \"b\"\n":                     `2: hostname: Key 'hostname' has already been defined.`,
		"[smtp\nlisten = 1":                                        `2: expected '.' or ']' to end table name`,
		"[smarthost]\npassword = \"\"\"" + secret + "\n\nand more": `password`,
	} {
		_, err := load(t, text, nil)
		var all Mistakes
		if !errors.As(err, &all) || len(all) != 1 {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if said := err.Error(); !strings.Contains(said, want) || strings.Contains(said, secret) || strings.Contains(said, "horse") || strings.Contains(said, "\n") {
			t.Errorf("%q says\n%s, want\n%s", text, said, want)
		}
	}
}

func TestFooterFiles(t *testing.T) {
	text, env := fixture(t)
	for content, want := range map[string]string{
		"<a href=\"{{unsubscribe_url}}\">stop</a>":    "",
		"<a href=\"\">stop</a>":                       "holds {{unsubscribe_url}} 0 times",
		"{{unsubscribe_url}} and {{unsubscribe_url}}": "holds {{unsubscribe_url}} 2 times",
		strings.Repeat("a", 1<<20+1):                  "is no regular file, or over 1 MiB",
	} {
		file := filepath.Join(t.TempDir(), "footer.html")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		changed, _ := replace(t, text, "footer_html", strconv.Quote(file))
		_, err := load(t, changed, env)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.40q: %v, want %q", content, err, want)
		}
	}
}

// Every mistake in the file of rules is told, at the line that names it.
func TestRulesFile(t *testing.T) {
	text, env := fixture(t)
	file := filepath.Join(t.TempDir(), "rules.toml")
	changed, line := replace(t, text, "rules_file", strconv.Quote(file))
	const good = "[[rule]]\nname = \"own\"\nprovider = \"own\"\nkind = \"open\"\nhosts = [\"px.example.org\"]\nexample = \"https://px.example.org/1.gif\"\n"
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := load(t, changed, env)
	if err != nil || c.Rewrite.RulesFile != file {
		t.Fatal(err)
	}
	bad := strings.Replace(good, "px.example.org/1", "other.example.org/1", 1) + "[[rule]]\nname = \"two\"\n"
	if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = load(t, changed, env)
	var all Mistakes
	if !errors.As(err, &all) || len(all) < 2 {
		t.Fatalf("%v, want a mistake for each rule", err)
	}
	for _, m := range all {
		if m.Line != line || m.Key != "rewrite.rules_file" || !strings.HasPrefix(m.Wrong, file+": ") {
			t.Errorf("%v, want it at line %d", m, line)
		}
	}
}

// With tokens the API may be reached from elsewhere; every mistake in their file is told, at the line
// that names it.
func TestTokenFile(t *testing.T) {
	text, env := fixture(t)
	file := filepath.Join(t.TempDir(), "tokens")
	changed, line := replace(t, text, "token_file", strconv.Quote(file))
	changed, _ = replace(t, changed, "admin.listen", `"0.0.0.0:8081"`)
	good := "write " + strings.Repeat("0a", 32) + " shop\n"
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := load(t, changed, env); err != nil || c.Admin.TokenFile != file {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("read secret\n"+good+"all\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := load(t, changed, env)
	var all Mistakes
	if !errors.As(err, &all) || len(all) != 2 {
		t.Fatalf("%v, want two mistakes", err)
	}
	for i, n := range []int{1, 3} {
		if m := all[i]; m.Line != line || m.Key != "admin.token_file" || !strings.HasPrefix(m.Wrong, fmt.Sprintf("%s: line %d: ", file, n)) || strings.Contains(m.Wrong, "secret") {
			t.Errorf("%v, want it at line %d", m, line)
		}
	}
}

func TestDKIMKey(t *testing.T) {
	_, env := fixture(t)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dkim.pem")
	dkim := fmt.Sprintf("[dkim]\ndomain = \"example.org\"\nselector = \"gate\"\nkey_file = %q\n", file)
	for content, want := range map[string]string{
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})): "",
		"no key": "16: dkim.key_file: DKIM key " + file + ": not PEM",
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := load(t, minimal+dkim, env)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := load(t, minimal+dkim, env); err == nil || !strings.Contains(err.Error(), "16: dkim.key_file: DKIM key: stat "+file+": no such file") {
		t.Error(err)
	}
}

func TestDKIMKeys(t *testing.T) {
	_, env := fixture(t)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dkim.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	block := func(domain, selector, file string) string {
		return fmt.Sprintf("[[dkim.key]]\ndomain = %q\nselector = %q\nkey_file = %q\n", domain, selector, file)
	}
	first := "[dkim]\ndomain = \"example.org\"\nselector = \"gate\"\n" + fmt.Sprintf("key_file = %q\n", file)
	for text, want := range map[string]string{
		first + block("example.org", "gate2", file) + block("shop.example", "gate", file):       "",
		"[dkim]\nleave_out = [\"Message-ID\", \"date\"]\n" + block("example.org", "gate", file): "",
		block("example.org", "a_b", file):                             "",
		first + block("Example.org", "Gate", file):                    "19: dkim.key.selector: \"Gate\" is that of another key of this domain",
		block("example.org", "a", file) + block("example", "a", file): "18: dkim.key.domain: \"example\" is not a domain",
		block("example.org", "a b", file):                             "15: dkim.key.selector: \"a b\" is not a selector",
		block("example.org", "a", file+".not"):                        "16: dkim.key.key_file: DKIM key: stat",
		"[[dkim.key]]\ndomain = \"example.org\"\nselector = \"a\"\n":  "dkim.key.key_file",
		"[dkim]\nleave_out = [\"from\"]\n":                            "14: dkim.leave_out: \"from\" has to be signed",
		"[dkim]\nleave_out = [\"Message-ID:\"]\n":                     "14: dkim.leave_out: \"Message-ID:\" is not the name of a header field",
	} {
		c, err := load(t, minimal+text, env)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s\n%v, want %q", text, err, want)
		}
		if want == "" && len(c.DKIM.Keys()) != strings.Count(text, "key_file") {
			t.Errorf("%s\n%d keys", text, len(c.DKIM.Keys()))
		}
	}
}

func TestKeyFileMode(t *testing.T) {
	text, env := fixture(t)
	if err := os.Chmod(env["STATE"]+"/key", 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := load(t, text, env)
	if want := "consentgate.toml:16: key_file: key file " + env["STATE"] + "/key has mode 0644, so others may use it: chmod 600"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestUnreadable(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.toml"), os.LookupEnv)
	if !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestFind(t *testing.T) {
	t.Chdir(t.TempDir())
	old := Places
	t.Cleanup(func() { Places = old })
	Places = []string{"consentgate.toml", "etc/consentgate.toml"}
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "--config FILE") {
		t.Error(err)
	}
	if err := os.Mkdir("etc", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, place := range slices.Backward(Places) {
		if err := os.WriteFile(place, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Find(); got != place || err != nil {
			t.Errorf("%s, %v, want %s", got, err, place)
		}
	}
}

// A folder that may not be looked into, such as the home of root after runuser, hides no file in /etc.
func TestFindInClosedFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "closed"), 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		t.Skip("nothing is closed to root")
	}
	old := Places
	t.Cleanup(func() { Places = old })
	Places = []string{filepath.Join(dir, "closed", "consentgate.toml"), filepath.Join(dir, "consentgate.toml")}
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Error(err)
	}
	if err := os.WriteFile(Places[1], nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Find(); got != Places[1] || err != nil {
		t.Errorf("%s, %v, want %s", got, err, Places[1])
	}
}

// No key is called a secret by chance: what sounds like one has the tag.
func TestSecretsAreTagged(t *testing.T) {
	sounds := regexp.MustCompile(`password|store$|urls$|webhook_url`)
	var walk func(path string, t2 reflect.Type)
	walk = func(path string, t2 reflect.Type) {
		for i := range t2.NumField() {
			f := t2.Field(i)
			key := join(path, f.Tag.Get("toml"))
			inner := f.Type
			if inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct && inner != prefixType {
				walk(key, inner)
			}
			if _, ok := f.Tag.Lookup("secret"); !ok && sounds.MatchString(key) {
				t.Errorf("%s is not tagged as secret", key)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
}
