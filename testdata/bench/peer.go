package main

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// peer is Postfix that has each message signed by opendkim and queues it: durable, which the
// gateway in mode stateless is not, and without any look at the message's content.
type peer struct {
	smtp              string
	postfix, opendkim *process
	versions          string
}

// errNoPeer is wrapped where this machine cannot run the peer.
var errNoPeer = errors.New("not measured")

// mainCF: local relay without DNS, TLS or lists, with room for all connections. What is set about
// concurrency is there to make Postfix faster than it is by default.
const mainCF = `compatibility_level = 3.6
config_directory = %[1]s/etc
queue_directory = %[1]s/queue
data_directory = %[1]s/data
command_directory = %[3]s
daemon_directory = %[4]s
maillog_file = %[1]s/maillog
maillog_file_prefixes = %[1]s
myhostname = peer.example.org
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:%[2]s
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtpd_peername_lookup = no
local_transport = error:no local mail
alias_maps =
alias_database =
local_recipient_maps =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions =
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_event_limit_exceptions = static:all
in_flow_delay = 0
default_process_limit = 200
default_destination_concurrency_limit = 100
initial_destination_concurrency = 50
qmgr_message_active_limit = 40000
qmgr_message_recipient_limit = 40000
smtp_connection_cache_destinations = 127.0.0.1
smtp_tls_security_level = none
smtpd_tls_security_level = none
biff = no
smtpd_milters = unix:%[1]s/sign/socket
milter_default_action = tempfail
`

const masterCF = `%s inet n - n - 200 smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - 100 smtp
relay unix - - n - 100 smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

const opendkimConf = `Syslog no
Mode s
Domain %[2]s
Selector %[3]s
KeyFile %[1]s/sign/dkim.pem
Canonicalization relaxed/relaxed
SignatureAlgorithm rsa-sha256
Socket local:%[1]s/sign/socket
InternalHosts 127.0.0.0/8
RequireSafeKeys no
UserID root
UMask 000
Background no
`

// startPeer runs both in dir, with queue and sockets of their own; what else of Postfix runs on
// the machine is not touched. The key and the domain are those of the gateway.
func startPeer(ctx context.Context, dir string, key *rsa.PrivateKey, domain, smarthost string) (p *peer, err error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: Postfix starts as root only", errNoPeer)
	}
	var missing []string
	for _, program := range []string{"postfix", "postconf", "opendkim"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	if missing != nil {
		return nil, fmt.Errorf("%w: not in PATH: %s (on Debian: apt-get install postfix opendkim, and /usr/sbin in PATH)", errNoPeer, strings.Join(missing, ", "))
	}
	places, err := output(ctx, "postconf", "-dh", "command_directory", "daemon_directory", "mail_version")
	if err != nil {
		return nil, err
	}
	place := strings.Split(places, "\n")
	if len(place) != 3 {
		return nil, fmt.Errorf("postconf says %q", places)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	_, smarthostPort, err := net.SplitHostPort(smarthost)
	if err != nil {
		return nil, err
	}
	if err := lay(dir, fmt.Sprintf(mainCF, dir, smarthostPort, place[0], place[1]), fmt.Sprintf(masterCF, port),
		fmt.Sprintf(opendkimConf, dir, domain, selector), key); err != nil {
		return nil, err
	}
	if _, err := output(ctx, "chown", "postfix", dir+"/data"); err != nil {
		return nil, err
	}

	p = &peer{smtp: net.JoinHostPort("127.0.0.1", port)}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stop())
			if text, readErr := os.ReadFile(dir + "/maillog"); readErr == nil {
				err = fmt.Errorf("%w\n%s", err, text[max(0, len(text)-2000):])
			}
		}
	}()
	if p.opendkim, err = start(dir+"/opendkim.log", "opendkim", "-f", "-x", dir+"/sign/opendkim.conf"); err != nil {
		return p, err
	}
	err = p.opendkim.ready(ctx, func() error {
		c, err := net.Dial("unix", dir+"/sign/socket")
		if err == nil {
			c.Close()
		}
		return err
	})
	if err != nil {
		return p, err
	}
	// "postfix check" lays out the queue. The master is started without "postfix start-fg", which
	// would stand between as a shell: a signal would end the shell and leave the master running.
	if _, err = output(ctx, "postfix", "-c", dir+"/etc", "check"); err != nil {
		return p, err
	}
	if p.postfix, err = start(dir+"/postfix.log", place[1]+"/master", "-c", dir+"/etc", "-s"); err != nil {
		return p, err
	}
	if err = p.postfix.ready(ctx, func() error { return greets(p.smtp, "", "220 ") }); err != nil {
		return p, err
	}
	version, err := output(ctx, "opendkim", "-V")
	if err != nil {
		return p, err
	}
	first, _, _ := strings.Cut(version, "\n")
	p.versions = "Postfix " + place[2] + ", " + strings.Replace(first, "opendkim: ", "", 1)
	return p, nil
}

// lay makes the folders and files of the peer.
func lay(dir, main, master, sign string, key *rsa.PrivateKey) error {
	// Postfix's own user must come through to opendkim's socket.
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		return err
	}
	for _, name := range []string{"", "etc", "queue", "data", "sign"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	for name, text := range map[string][]byte{
		"etc/main.cf": []byte(main), "etc/master.cf": []byte(master),
		"sign/opendkim.conf": []byte(sign), "sign/dkim.pem": private,
	} {
		mode := os.FileMode(0o644)
		if name == "sign/dkim.pem" {
			mode = 0o600
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, mode); err != nil {
			return err
		}
	}
	return nil
}

// pids are all processes of the two.
func (p *peer) pids() []int {
	master := p.postfix.pid()
	return append(children(master), master, p.opendkim.pid())
}

// stop ends both.
func (p *peer) stop() (err error) {
	for _, one := range []*process{p.postfix, p.opendkim} {
		if one != nil {
			err = errors.Join(err, one.stop())
		}
	}
	return err
}
