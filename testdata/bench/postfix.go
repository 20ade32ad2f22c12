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
	"path/filepath"
	"strings"

	"github.com/consentgate/consentgate/testdata/process"
)

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
smtpd_milters = %[5]s
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

// signing is what opendkim signs with: the key and the domain of the gateway.
type signing struct {
	key    *rsa.PrivateKey
	domain string
}

// startPostfix runs Postfix in dir, which is made, with queue and sockets of its own; what else of
// Postfix runs on the machine is not touched. It passes all on to smarthost as it is; with sign,
// opendkim signs each message before it is queued.
func startPostfix(ctx context.Context, dir, smarthost string, sign *signing) (p *peer, err error) {
	programs := []string{"postfix", "postconf"}
	if sign != nil {
		programs = append(programs, "opendkim")
	}
	if err := havePrograms("postfix opendkim", programs...); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("only root may start it")
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
	files := map[string]string{"etc/master.cf": fmt.Sprintf(masterCF, port)}
	milters := ""
	if sign != nil {
		milters = "unix:" + dir + "/sign/socket"
		files["sign/opendkim.conf"] = fmt.Sprintf(opendkimConf, dir, sign.domain, selector)
		files["sign/dkim.pem"] = string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(sign.key)}))
	}
	files["etc/main.cf"] = fmt.Sprintf(mainCF, dir, smarthostPort, place[0], place[1], milters)
	// Postfix's own user must come through to its folders and to opendkim's socket.
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		return nil, err
	}
	if err := lay(dir, []string{"", "etc", "queue", "data", "sign"}, files); err != nil {
		return nil, err
	}
	if _, err := output(ctx, "chown", "postfix", dir+"/data"); err != nil {
		return nil, err
	}

	p = &peer{smtp: net.JoinHostPort("127.0.0.1", port), versions: "Postfix " + place[2], log: dir + "/maillog"}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", errors.Join(err, p.stop()), process.EndOf(p.log))
		}
	}()
	if sign != nil {
		if err := p.startOpendkim(ctx, dir); err != nil {
			return p, err
		}
	}
	// "postfix check" lays out the queue. The master is started without "postfix start-fg", which
	// would stand between as a shell: a signal would end the shell and leave the master running.
	if _, err = output(ctx, "postfix", "-c", dir+"/etc", "check"); err != nil {
		return p, err
	}
	master, err := p.start(dir+"/postfix.log", place[1]+"/master", "-c", dir+"/etc", "-s")
	if err != nil {
		return p, err
	}
	if err = master.Ready(ctx, func() error { return greets(p.smtp, "", "220 ") }); err != nil {
		return p, err
	}
	return p, nil
}

// startOpendkim runs the milter, and adds its version to those of the peer.
func (p *peer) startOpendkim(ctx context.Context, dir string) error {
	milter, err := p.start(dir+"/opendkim.log", "opendkim", "-f", "-x", dir+"/sign/opendkim.conf")
	if err != nil {
		return err
	}
	err = milter.Ready(ctx, func() error {
		c, err := net.Dial("unix", dir+"/sign/socket")
		if err == nil {
			c.Close()
		}
		return err
	})
	if err != nil {
		return err
	}
	version, err := output(ctx, "opendkim", "-V")
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(version, "\n")
	p.versions += ", " + strings.Replace(first, "opendkim: ", "", 1)
	return nil
}
