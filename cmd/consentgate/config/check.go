package config

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/idna"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/redisstore"
	"github.com/consentgate/consentgate/consent/web"
	"github.com/consentgate/consentgate/relay/login"
	"github.com/consentgate/consentgate/relay/sign"
	"github.com/consentgate/consentgate/rewrite/trackers"
)

// check finds what is wrong beyond the type of a single value, and brings addresses and hosts
// into one form.
func (c *Config) check(d *decoder) {
	if c.Hostname != "" && !isHost(c.Hostname) {
		d.is("hostname", "is not a host name", `a full name such as "gate.example.org"`)
	}
	if c.KeyFile != "" && !d.wrong["key_file"] {
		if _, err := keyring.Load(c.KeyFile); err != nil {
			d.bad("key_file", err.Error(), "")
		}
	}
	c.checkSMTP(d)
	c.checkTLS(d)
	c.checkLogins(d)
	c.checkSmarthost(d)
	c.checkDelivery(d)
	c.checkConsent(d)
	c.checkRewrite(d)
	c.checkUnsubscribe(d)
	c.checkTracking(d)
	c.checkDKIM(d)
	c.checkAdmin(d)
	c.checkListeners(d)
}

func (c *Config) checkSMTP(d *decoder) {
	if len(c.SMTP.Listen)+len(c.SMTP.ListenTLS)+len(c.SMTP.ListenLMTP) == 0 {
		d.bad("smtp.listen", "is empty, so no sender could connect", `["127.0.0.1:2525"]`)
	}
	for key, addresses := range c.SMTP.listeners() {
		for i, address := range addresses {
			checkListen(d, fmt.Sprintf("%s[%d]", key, i), address)
		}
	}
	for i, p := range c.SMTP.AllowNetworks {
		if p.IsValid() && p.Bits() == 0 {
			d.is(fmt.Sprintf("smtp.allow_networks[%d]", i), "is the whole internet, which would make an open relay", "only the networks of your own senders")
		}
	}
	for i, p := range c.SMTP.ProxyProtocolFrom {
		if p.IsValid() && p.Bits() == 0 {
			d.is(fmt.Sprintf("smtp.proxy_protocol_from[%d]", i), "is the whole internet, so anybody could claim to come from anywhere", "only the addresses of your balancers")
		}
	}
	if len(c.SMTP.Classes) == 0 {
		d.bad("smtp.classes", "is empty, so no mail could be sent", `["marketing", "transactional"]`)
	}
}

// listeners are the keys that hold addresses to listen on, with what they hold.
func (s *SMTP) listeners() map[string][]string {
	return map[string][]string{"smtp.listen": s.Listen, "smtp.listen_tls": s.ListenTLS, "smtp.listen_lmtp": s.ListenLMTP}
}

// checkListen reports an address that senders could not connect to.
func checkListen(d *decoder, path, address string) {
	switch {
	case d.wrong[path]:
	case strings.HasPrefix(address, "systemd:"):
		if name := address[len("systemd:"):]; name == "" || len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) {
			d.is(path, "names no socket of systemd", `"systemd:NAME", NAME being the FileDescriptorName= of the socket unit`)
		}
	case strings.HasPrefix(address, "unix:"):
		if file := address[len("unix:"):]; !strings.HasPrefix(file, "/") || len(file) > maxSocketPath {
			d.is(path, "is not an absolute path that fits a socket", fmt.Sprintf(`"unix:/path", the path at most %d bytes`, maxSocketPath))
		}
	default:
		checkHostPort(d, path, address)
	}
}

// checkTLS checks the certificate, and that it is there where it is needed.
func (c *Config) checkTLS(d *decoder) {
	s := c.SMTP
	switch checkPair(d, "smtp", s.TLSCert, s.TLSKey); {
	case s.TLSCert != "" || s.TLSKey != "" || d.wrong["smtp.tls_cert"] || d.wrong["smtp.tls_key"]:
	case len(s.ListenTLS) > 0 && !d.anyWrong("smtp.listen_tls["):
		d.bad("smtp.listen_tls", "needs a certificate", "add tls_cert and tls_key under [smtp]")
	case len(c.Login) > 0:
		d.bad("login[0]", "nobody could log in, since that is offered under TLS only", "add tls_cert and tls_key under [smtp]")
	}
}

// checkPair checks tls_cert and tls_key of a table: both or neither, and that they belong together.
func checkPair(d *decoder, table, certFile, keyFile string) {
	cert, key := table+".tls_cert", table+".tls_key"
	switch {
	case d.wrong[cert] || d.wrong[key]:
	case certFile == "" && keyFile != "":
		d.bad(cert, "is missing beside "+key, "the PEM file of the certificate and its chain")
	case certFile != "" && keyFile == "":
		d.bad(key, "is missing beside "+cert, "the PEM file of the private key")
	case certFile != "":
		for path, file := range map[string]string{cert: certFile, key: keyFile} {
			if _, err := readSmall(file); err != nil {
				d.bad(path, err.Error(), "a PEM file that consentgate may read")
			}
		}
		if d.wrong[cert] || d.wrong[key] {
			return
		}
		if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
			d.bad(cert, strings.TrimPrefix(err.Error(), "tls: ")+", in "+certFile+" with "+keyFile, "a certificate in PEM, its chain behind it, and the key that belongs to it")
		}
	}
}

func (c *Config) checkLogins(d *decoder) {
	names := map[string]bool{}
	for i := range c.Login {
		l := &c.Login[i]
		at := func(key string) string { return fmt.Sprintf("login[%d].%s", i, key) }
		if !d.wrong[at("name")] && l.Name != "" {
			switch {
			case len(l.Name) > 255 || strings.ContainsFunc(l.Name, unicode.IsControl):
				d.is(at("name"), "is no name", "at most 255 bytes without control characters")
			case names[l.Name]:
				d.is(at("name"), "is the name of another login too", "a name of its own")
			}
			names[l.Name] = true
		}
		if !d.wrong[at("password_hash")] && l.PasswordHash != "" {
			if err := login.CheckHash(l.PasswordHash); err != nil {
				d.bad(at("password_hash"), err.Error(), "what consentgate hash-password prints")
			}
		}
		for j, class := range l.Classes {
			if !slices.Contains(c.SMTP.Classes, class) {
				d.is(fmt.Sprintf("%s[%d]", at("classes"), j), "is not in smtp.classes, which a login can only narrow", "one of those, or add it there")
			}
		}
		for j, domain := range l.FromDomains {
			path := fmt.Sprintf("%s[%d]", at("from_domains"), j)
			ascii, err := idna.Lookup.ToASCII(domain)
			if !d.wrong[path] && (err != nil || !isHost(ascii) || !strings.Contains(ascii, ".")) {
				d.is(path, "is not a domain", `such as "shop.example"; one below it is named by itself`)
			}
			l.FromDomains[j] = ascii
		}
	}
}

// maxSocketPath is the room for a path in sockaddr_un, less its ending zero, on the systems
// with the least of it.
const maxSocketPath = 103

func (c *Config) checkDelivery(d *decoder) {
	if c.Delivery.SpoolDir == "" && !d.wrong["delivery.spool_dir"] {
		d.bad("delivery.spool_dir", "is empty", `a folder, such as "/var/lib/consentgate/spool"; the control socket stands beside it in every mode`)
	}
	if info, err := os.Stat(c.Delivery.SpoolDir); err == nil && !info.IsDir() && !d.wrong["delivery.spool_dir"] {
		d.is("delivery.spool_dir", "is no folder", "a folder, or a name that is free")
	}
	if who := c.Delivery.KeepCopiesFor; who != "" && !d.wrong["delivery.keep_copies_for"] {
		if _, err := consent.ParseAddress(who); err != nil {
			d.is("delivery.keep_copies_for", "is no mail address", `a mailbox of your own, such as "seed@example.org"`)
		}
	}
}

func (c *Config) checkConsent(d *decoder) {
	const right = `"file:/path", "redis://host:6379/0", "redis+unix:///path?db=0", "redis+sentinel://host:26379,host:26379/MASTER", "redis+cluster://host:6379,host:6379", or rediss… for TLS`
	path := "consent.store"
	if d.wrong[path] {
		return
	}
	scheme, rest, ok := strings.Cut(c.Consent.Store, ":")
	switch {
	case !ok:
		d.bad(path, "this begins with no scheme", right)
	case scheme == "file":
		if file := strings.TrimPrefix(rest, "//"); file == "" || strings.HasSuffix(file, "/") {
			d.bad(path, "this names no file", `"file:/var/lib/consentgate/consent.db"`)
		} else if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
			d.bad(path, "this names no regular file", `"file:/var/lib/consentgate/consent.db"`)
		}
	case slices.Contains([]string{"redis", "rediss", "unix", "redis+unix", "redis+sentinel", "redis+cluster", "rediss+sentinel", "rediss+cluster"}, scheme):
		if err := redisstore.CheckURL(c.Consent.Store); err != nil {
			d.bad(path, err.Error(), right)
			return
		}
		if scheme != "redis" && scheme != "rediss" {
			return
		}
		u, err := url.Parse(c.Consent.Store)
		switch {
		case err != nil || u.Hostname() == "":
			d.bad(path, "this names no host", right)
		case u.Port() != "" && (!isPort(u.Port()) || u.Port() == "0"):
			d.bad(path, "the port is not from 1 to 65535", right)
		}
	default:
		d.bad(path, "the scheme is not known", right)
	}
}

// StoreFile returns the path of the embedded store, "" where the store is another.
func (c *Config) StoreFile() string { return StoreFile(c.Consent.Store) }

// StoreFile returns the path of a store that is a file, "" where it is another.
func StoreFile(store string) string {
	file, ok := strings.CutPrefix(store, "file:")
	if !ok {
		return ""
	}
	return strings.TrimPrefix(file, "//")
}

func (c *Config) checkRewrite(d *decoder) {
	for key, hosts := range map[string][]string{"rewrite.allow_hosts": c.Rewrite.AllowHosts, "rewrite.tracker_hosts": c.Rewrite.TrackerHosts} {
		for i, host := range hosts {
			path := fmt.Sprintf("%s[%d]", key, i)
			if d.wrong[path] {
				continue
			}
			if !isHostOrIP(strings.TrimPrefix(host, "*.")) {
				d.is(path, "is not a host", `a name alone, such as "img.example.org", without https:// and path`)
			}
			hosts[i] = strings.ToLower(host)
		}
	}
	if file := c.Rewrite.RulesFile; file != "" && !d.wrong["rewrite.rules_file"] {
		text, err := readSmall(file)
		if err != nil {
			d.bad("rewrite.rules_file", err.Error(), "a file of rules")
		} else if _, err := trackers.Load([]byte(text)); err != nil {
			i := 0
			for line := range strings.SplitSeq(err.Error(), "\n") { // one mistake a line
				d.bad(fmt.Sprintf("rewrite.rules_file[%d]", i), file+": "+line, "")
				i++
			}
		}
	}
	for i, host := range c.Rewrite.AllowHosts {
		if j := slices.Index(c.Rewrite.TrackerHosts, host); j >= 0 {
			d.is(fmt.Sprintf("rewrite.allow_hosts[%d]", i), "is in tracker_hosts as well", "one of the two")
		}
	}
}

func (c *Config) checkDKIM(d *decoder) {
	k := c.DKIM
	if k.Domain == "" {
		for key, value := range map[string]string{"dkim.selector": k.Selector, "dkim.key_file": k.KeyFile} {
			if value != "" && !d.wrong["dkim.domain"] {
				d.bad(key, "is set but dkim.domain is empty, so nothing would be signed", `domain = "example.org"`)
			}
		}
	} else {
		if k.Selector == "" && !d.wrong["dkim.selector"] {
			d.bad("dkim.selector", "is missing beside dkim.domain", `selector = "gate", for gate._domainkey.`+k.Domain)
		}
		if k.KeyFile == "" && !d.wrong["dkim.key_file"] {
			d.bad("dkim.key_file", "is missing beside dkim.domain", "the PEM file of the private key")
		}
		checkDKIMKey(d, "dkim", DKIMKey{k.Domain, k.Selector, k.KeyFile})
	}
	names := map[string]bool{}
	if k.Domain != "" {
		names[strings.ToLower(k.Selector+" "+k.Domain)] = true
	}
	for i, key := range k.Key {
		path := fmt.Sprintf("dkim.key[%d]", i)
		checkDKIMKey(d, path, key)
		name := strings.ToLower(key.Selector + " " + key.Domain)
		if names[name] && key.Selector != "" && key.Domain != "" {
			d.is(path+".selector", "is that of another key of this domain", "a selector of its own: one name in the DNS holds one key")
		}
		names[name] = true
	}
	for i, name := range k.LeaveOut {
		path := fmt.Sprintf("dkim.leave_out[%d]", i)
		switch {
		case d.wrong[path]:
		case !isFieldName(name):
			d.is(path, "is not the name of a header field", `such as "Message-ID"`)
		case slices.ContainsFunc([]string{"From", "List-Unsubscribe", "List-Unsubscribe-Post"}, func(must string) bool { return strings.EqualFold(must, name) }):
			d.is(path, "has to be signed", "RFC 6376 asks for From, and mailboxes for the List fields before they offer one-click unsubscribe")
		}
	}
}

// checkDKIMKey checks what is there of one key; path is the table that it stands in.
func checkDKIMKey(d *decoder, path string, k DKIMKey) {
	domain, selector, file := path+".domain", path+".selector", path+".key_file"
	if k.Domain != "" && !d.wrong[domain] && (!isHost(k.Domain) || !strings.Contains(k.Domain, ".") || strings.Contains(k.Domain, "_")) {
		d.is(domain, "is not a domain", `"example.org", without a selector`)
	}
	if k.Selector != "" && !d.wrong[selector] && !isHost(k.Selector) {
		d.is(selector, "is not a selector", `a DNS label, such as "gate"`)
	}
	if k.Domain != "" && k.Selector != "" && k.KeyFile != "" && !d.wrong[domain] && !d.wrong[selector] && !d.wrong[file] {
		if _, err := sign.LoadKey(k.KeyFile, k.Domain, k.Selector); err != nil {
			d.bad(file, err.Error(), "")
		}
	}
}

// isFieldName reports whether s is the name of a header field, RFC 5322 §2.2.
func isFieldName(s string) bool {
	return s != "" && len(s) <= 76 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' })
}

func (c *Config) checkAdmin(d *decoder) {
	if file := c.Admin.TokenFile; file != "" && !d.wrong["admin.token_file"] {
		if _, err := web.LoadTokens(file, slog.New(slog.DiscardHandler)); err != nil {
			i := 0
			for line := range strings.SplitSeq(err.Error(), "\n") { // one mistake a line
				d.bad(fmt.Sprintf("admin.token_file[%d]", i), line, "")
				i++
			}
		}
	}
	if d.wrong["admin.listen"] || !checkHostPort(d, "admin.listen", c.Admin.Listen) {
		return
	}
	if host, _, _ := net.SplitHostPort(c.Admin.Listen); !IsLoopback(host) && c.Admin.TokenFile == "" {
		d.is("admin.listen", "is not a loopback address, and there is no admin.token_file", `"127.0.0.1:8081", or a file of tokens`)
	}
}

// checkListeners reports two listeners on one address.
func (c *Config) checkListeners(d *decoder) {
	taken := map[string]string{}
	claim := func(path, address string) {
		if _, port, err := net.SplitHostPort(address); d.wrong[path] || err == nil && port == "0" {
			return
		}
		if other, ok := taken[address]; ok {
			d.is(path, "is the address of "+other+" too", "an address of its own")
			return
		}
		taken[address] = withoutIndexes(path)
	}
	for _, key := range []string{"smtp.listen", "smtp.listen_tls", "smtp.listen_lmtp"} {
		for i, address := range c.SMTP.listeners()[key] {
			claim(fmt.Sprintf("%s[%d]", key, i), address)
		}
	}
	claim("unsubscribe.listen", c.Unsubscribe.Listen)
	claim("admin.listen", c.Admin.Listen)
}

// checkHostPort reports an address that is not host:port. An empty host is every address of
// the machine; port 0 is any free one.
func checkHostPort(d *decoder, path, address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host != "" && !isHostOrIP(host) || !isPort(port) {
		d.is(path, "is not host:port", `such as "127.0.0.1:2525", a port from 0 to 65535`)
		return false
	}
	return true
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// IsLoopback reports whether a host, as a listener names it, is this machine alone.
func IsLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

func isHostOrIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil || isHost(s)
}

// isHost reports whether s is a host name: labels of letters, digits, hyphens and underscores
// with dots between (RFC 1123 §2.1, and underscores, which are found in the field).
func isHost(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i] | 0x20
			if (c < 'a' || c > 'z') && (label[i] < '0' || label[i] > '9') && label[i] != '-' && label[i] != '_' {
				return false
			}
		}
	}
	return true
}
