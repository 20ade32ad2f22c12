package config

import "github.com/consentgate/consentgate/consent"

// docs says of every key, dotted, what it does and when to change it. Write puts it above the key,
// with what the tags of Config say: bounds, and whether the key is read again at SIGHUP. A text
// between blank lines is a paragraph of its own.
var docs = map[string]string{
	"hostname": `Needed: the full name of this gateway, which the smarthost hears in EHLO and readers find in Received
and Message-ID. It should resolve to this machine, and back.`,
	"key_file": `Needed: the file that every key of the gateway is derived from, made by "consentgate keygen FILE". Keep a
copy in a safe place: without it the opt-outs in the store cannot be found, and no unsubscribe link that was sent opens
any more. Never make a new one for a store that is in use.`,

	"smtp": `What senders connect to.`,
	"smtp.listen": `Where SMTP is taken in: "host:port", "unix:/path" or "systemd:NAME" (the socket with FileDescriptorName=NAME).
Change it when senders are on other machines, such as [":2525"], and then allow_networks or a login with it.`,
	"smtp.listen_tls":  `The same, under TLS from the first byte, such as [":465"]. Needs tls_cert.`,
	"smtp.listen_lmtp": `The same, for LMTP, which has an answer for each recipient; for Postfix's lmtp on the same machine a unix socket.`,
	"smtp.tls_cert": `PEM file of the certificate, its chain behind it. Once there is one, STARTTLS is offered, and AUTH under it.
Read again when it changes; a broken one leaves the old in use.`,
	"smtp.tls_key":        `PEM file of the key that belongs to tls_cert.`,
	"smtp.allow_networks": `Who may send without a password, by address. A unix socket always may. Never put in more than your own senders.`,
	"smtp.proxy_protocol_from": `Balancers in front of the listeners, by address. They must send a PROXY header (version 1 or 2), and the
address in it decides about allow_networks.`,
	"smtp.max_message_bytes": `The largest message, in bytes; more is refused with 552. No larger than what the smarthost takes.`,
	"smtp.max_recipients":    `Recipients of one message; the next one is told 452 and to come again. In mode "stateless" it is one, whatever stands here.`,
	"smtp.classes": `What a sender may claim its mail to be by X-Consent-Class. "transactional" (receipts, password resets) also
reaches people who unsubscribed; take it away where all mail is marketing.`,
	"smtp.max_connections": `Connections at once; the next one is told 421. Peers that have to log in, and have not, take three quarters
of them at most, one address a quarter.`,
	"smtp.idle_timeout": `How long a client may say nothing. One that is slower than 500 bytes a second after that is cut off too.`,

	"login":               `A sender that proves who it is by user name and password. Any number of such blocks; AUTH is offered under TLS only.`,
	"login.name":          `The user name. Needed in each block.`,
	"login.password_hash": `What "consentgate hash-password" prints (argon2id), or bcrypt. Needed in each block.`,
	"login.scopes":        `Which scopes it may claim by X-Consent-Scope; the first is what its mail belongs to without one. None: any.`,
	"login.classes":       `Which classes it may claim. None: those of [smtp].`,
	"login.from_domains":  `Which domains may stand in its From, literally; the envelope is passed on as it came. None: any.`,

	"smarthost": `The next hop, which gets every copy.`,
	"smarthost.urls": `Needed: in order of preference; one that fails is left alone for a while. smtp://host:port uses STARTTLS when it
is offered, smtp+starttls:// insists on it, smtps:// is TLS from the first byte, lmtp://host:port and lmtp+unix:///path
are LMTP. Certificates are checked, but for smtp:// on this machine.`,
	"smarthost.username":        `The login there, if it wants one.`,
	"smarthost.password":        `Best as "${SMARTHOST_PASSWORD}", taken from the environment.`,
	"smarthost.max_connections": `Connections at once. Providers name a limit; stay below it.`,
	"smarthost.max_per_second":  `Copies a second, 0 for no limit. For a provider that counts, or a new address that has to be warmed up.`,
	"smarthost.connect_timeout": `How long a connection may take to come about. After that RFC 5321 section 4.5.3.2 holds: 5 minutes a command, 10 after the end of the message.`,
	"smarthost.provider": `The provider behind it: "mailjet", "mailgun", "sendgrid", "mandrill", "postmark", "ses" or "sparkpost". Copies without
consent then tell it not to add its own tracking. Set it whenever the smarthost is one of these.`,
	"smarthost.headers_without_open":            `For any other provider: header fields set on copies without consent to opens. An example: { X-Track-Opens = "no" }`,
	"smarthost.headers_without_click":           `The same, on copies without consent to clicks.`,
	"smarthost.ses_untracked_configuration_set": `Needed with provider "ses": a configuration set that has neither open nor click tracking.`,

	"delivery": `When the sender gets its answer, and how long is tried.`,
	"delivery.mode": `"cutthrough": the smarthost is asked while the sender waits, and what it does not take now is on disk before the
answer. "spool": the answer comes as soon as the message is on disk; for senders that must not wait. "stateless": nothing
is kept, the smarthost's answer is the answer, one recipient a transaction; for sidecars without a disk.`,
	"delivery.spool_dir":               `The folder of what waits, mode 0700; it holds personal data. The control socket stands beside it, in every mode.`,
	"delivery.retry_for":               `How long a copy is tried that is refused for now; then the sender gets a report.`,
	"delivery.first_retry":             `The wait before the second attempt; then twice that and so on, up to 4 hours.`,
	"delivery.retry_for_transactional": `The same as retry_for, for transactional mail: a login code is worth nothing tomorrow.`,
	"delivery.keep_copies_for": `A mailbox of your own. The last 20 copies for it are kept in clear in "copies" beside the spool, for
"consentgate verify-delivery". For a trial; empty keeps none.`,

	"consent": `Where consents are kept, and what counts where nothing is known.`,
	"consent.store": `"file:/path" is embedded, for one gateway. Redis from 7.0 on, for several: redis://host:6379/0, redis+unix:///path?db=0,
redis+sentinel://host:26379,host:26379/MASTER, redis+cluster://host:6379,host:6379; rediss… for TLS. It needs
maxmemory-policy noeviction, and appendonly yes or opt-outs may be lost in a crash.`,
	"consent.when_unset": `What somebody counts as who was never asked: "denied" or "granted", one word for both purposes or one each. "granted" only
where the law that holds for your readers lets you.`,
	"consent.when_unreachable": `What marketing mail gets while the store does not answer: "defer" (451, the sender tries again) or "untracked",
which may reach people who unsubscribed. Transactional mail always leaves untracked.`,
	"consent.wait_replicas":     `How many Redis replicas must have a change before it is confirmed. Set it to 1 where a failover must not lose an opt-out.`,
	"consent.cache":             `How long a decision may be reused in memory, while the store tells of changes made elsewhere. "0s": every message asks.`,
	"consent.default_scope":     `The scope of mail that names none: the list, brand or stream that a consent is for.`,
	"consent.history_retention": `History that proves nothing in force any more is deleted after this.`,

	"rewrite": `What becomes of trackers without consent.`,
	"rewrite.images": `"trackers": what is known or looks like an open tracker goes. "all-remote": no remote picture, font or style sheet
stays at all, which no tracker survives and few newsletters look good with.`,
	"rewrite.opaque_links": `Needed, since it is yours to answer for: a link through a known click counter whose destination nobody can read.
"keep": it stays and still counts. "unlink": the text stays and leads nowhere. "reject": the message is refused with 550,
so that somebody mends the newsletter.`,
	"rewrite.identifiers": `"strip": parameters that name the person (mc_eid, mkt_tok, _hsenc …) go from links. "keep": they stay.`,
	"rewrite.rules_file":  `More rules of your own, before the built-in ones; "consentgate inspect" of two copies of a mailing proposes some.`,
	"rewrite.observe": `true: the text of every copy stays as it came, and the log says what would be done. For a careful start only: people
who did not consent are tracked meanwhile.`,
	"rewrite.allow_hosts":   `Hosts that are never treated as trackers, such as ["img.example.org", "*.cdn.example.org"].`,
	"rewrite.tracker_hosts": `Hosts that always are.`,
	"rewrite.signed":        `S/MIME and PGP bodies that hold trackers, where consent is missing: "keep" them as they are, or "reject" them.`,

	"unsubscribe": `The public page behind every unsubscribe link, and what leads to it.`,
	"unsubscribe.base_url": `Needed: the public https address of the page. It stands in every mail for years, so choose a name that stays. A web
server there passes requests to listen.`,
	"unsubscribe.listen":   `Where the page is served.`,
	"unsubscribe.tls_cert": `PEM file of a certificate, where no web server in front does TLS. Read again when it changes.`,
	"unsubscribe.tls_key":  `PEM file of the key that belongs to it.`,
	"unsubscribe.trusted_proxies": `The web servers in front, by address: their X-Forwarded-For or Forwarded says where a reader comes from. Without it
all readers count as one network, and limits on confirmations hit all of them.`,
	"unsubscribe.unsubscribed": `What marketing mail to somebody who unsubscribed gets: "reject" (550, so that the sender's list hears of it) or "discard".`,
	"unsubscribe.mailto": `An address such as "unsubscribe@gate.example.org" whose mail arrives at smtp.listen: it is added to List-Unsubscribe, and
mail to it unsubscribes. Anybody may send to it. Empty: by web only.`,
	"unsubscribe.footer_html":    `A template file instead of the built-in footer in eight languages. It holds {{unsubscribe_url}} exactly once.`,
	"unsubscribe.footer_text":    `The same for plain text.`,
	"unsubscribe.chain":          `true: who unsubscribes here is also unsubscribed at the sender's own one-click address, where its mail names one.`,
	"unsubscribe.webhook_url":    `An address of yours that is told of every change of consent, signed and in order; see relay/outbox/WEBHOOK.md.`,
	"unsubscribe.webhook_events": `What it is told: "change" of consents, and of copies "suppressed", "accepted" and "refused" by the smarthost.`,
	"unsubscribe.company":        `Who the mail is from, in the footer, on the page and in mails of the gateway's own. Best the name that readers know.`,
	"unsubscribe.logo_file":      `A PNG, JPEG, GIF, WebP or SVG of at most 4 KiB, shown on the page. Needs company.`,
	"unsubscribe.colour":         `"#rrggbb", of the page's buttons.`,
	"unsubscribe.notice_file":    `What a consent given on the page means: its version in the first line, then the text. Without it a text of ours.`,
	"unsubscribe.confirm_grants": `true: a consent given on the page holds once confirmed from a mail to that person, since a link may have been
forwarded. false: at once.`,
	"unsubscribe.footer_position": `Where the footer is put: "bottom", "top", or "auto", which is the bottom but for HTML over 100 KB, which Gmail clips.`,

	"tracking": `How copies with consent are tracked.`,
	"tracking.mode": `"keep": pixels and counted links stay as the sender made them. "guard": they lead to base_url, and consent is looked up
when they are hit, so that a withdrawal also holds for mail that was delivered.`,
	"tracking.base_url":        `Needed with "guard": "https://links.example.org", a host of its own whose web server passes requests to unsubscribe.listen.`,
	"tracking.forward_address": `What a pixel's server learns of the reader: "none", "truncated" (network and program) or "full".`,

	"dkim": `The key that copies are signed with. No key at all: they are not signed here, and unless the smarthost does, no mailbox
offers one-click unsubscribe.`,
	"dkim.domain":    `The domain of your From addresses, such as "example.org".`,
	"dkim.selector":  `Where in it the DNS has the key: SELECTOR._domainkey.DOMAIN. "consentgate check-config" prints the record.`,
	"dkim.key_file":  `The private key in PEM, RSA of 2048 bits or Ed25519, read by nobody else. Read again when it changes.`,
	"dkim.leave_out": `Fields that are not signed because the smarthost rewrites them, such as ["Message-ID", "Date"] for SES.`,
	"dkim.key": `One more key. Any number of such blocks: the From domain's sign, else those of the nearest domain above it. Two of one
domain both sign: RSA for everybody, Ed25519 beside it.`,
	"dkim.key.domain":   `As above. Needed in each block.`,
	"dkim.key.selector": `As above. Needed in each block.`,
	"dkim.key.key_file": `As above. Needed in each block.`,

	"admin":        `The API, /metrics, the status page, /healthz and /readyz. Never the public address.`,
	"admin.listen": `Where they are served, in plain HTTP. Anybody on this machine may use them until there is a token_file.`,
	"admin.token_file": `A line "ROLE SHA-256 COMMENT" for each bearer token; ROLE is read or write. Needed where listen is no loopback address.
Read again when it changes.`,

	"log":           `What is logged, to standard error.`,
	"log.level":     `"debug", "info", "warn" or "error".`,
	"log.format":    `"text", or "json" for programs.`,
	"log.addresses": `"masked", or "full": mail addresses in clear, which makes the log personal data.`,
}

// Example is the defaults with a value for each key that is needed.
func Example() *Config {
	c := Default()
	c.Hostname = "gate.example.org"
	c.KeyFile = "/var/lib/consentgate/key"
	c.Smarthost.URLs = []string{"smtp://127.0.0.1:25"}
	c.Rewrite.OpaqueLinks = "keep"
	c.Unsubscribe.BaseURL = "https://mail.example.org"
	return c
}

// blocks are what stands in a block that may be repeated where there is none.
var blocks = map[string]any{
	"login": Login{
		Name:         "shop",
		PasswordHash: "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA",
		Scopes:       []consent.Scope{"newsletter", "orders"},
		Classes:      []consent.Class{consent.Marketing},
		FromDomains:  []string{"shop.example"},
	},
	"dkim.key": DKIMKey{Domain: "shop.example", Selector: "gate", KeyFile: "/etc/consentgate/dkim-shop.pem"},
}
