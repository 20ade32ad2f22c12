package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/relay/sign"
)

type initCmd struct {
	Config        string `placeholder:"FILE" help:"Where to write the configuration. Without it: /etc/consentgate/consentgate.toml as root, else consentgate.toml in the working directory."`
	State         string `placeholder:"FOLDER" help:"Where keys, spool and store are kept. Without it: /var/lib/consentgate as root, else the folder state beside the configuration."`
	Hostname      string `placeholder:"NAME" help:"The full name of this gateway."`
	Smarthost     string `placeholder:"URL" help:"The next hop, such as smtp://127.0.0.1:25 or smtp+starttls://mail.example.org:587."`
	SmarthostUser string `placeholder:"NAME" help:"The user name there. With --yes the password is taken from the environment variable SMARTHOST_PASSWORD when the gateway starts."`
	PublicURL     string `name:"public-url" placeholder:"URL" help:"The public https address of the unsubscribe page."`
	Company       string `placeholder:"NAME" help:"Who the mail is from, as readers know it."`
	DKIMDomain    string `name:"dkim-domain" placeholder:"DOMAIN" help:"The domain of the From addresses, for which copies are signed; none: they are not signed here."`
	DKIMSelector  string `name:"dkim-selector" placeholder:"NAME" help:"Where in that domain the DNS has the key."`
	Store         string `placeholder:"URL" help:"Where consents are kept: file:/path or redis://host:6379/0."`
	OpaqueLinks   string `placeholder:"keep|unlink|reject" help:"What becomes of a counted link whose destination nobody can read, where somebody did not agree."`
	User          string `placeholder:"NAME" help:"As root: whom the files shall belong to, since serve runs as that user."`
	TestMail      string `placeholder:"ADDRESS" help:"Send a test mail to this address through the gateway as it is now configured. Where the files are there already, and no flag but --config is given beside this one, that is all that is done."`
	Yes           bool   `help:"Ask nothing: what no flag says is the default."`
	Example       bool   `help:"Print a configuration with every key and its default, and do nothing else."`
}

func (initCmd) Help() string {
	return `Asks what it needs, each with a default, and writes a configuration in which every key stands with what it does, a key file and a DKIM key (RSA-2048), all with mode 0600. It never overwrites a file. Then it says what can be reached, prints the DNS record to publish and what to do next, and sends a test mail if it is given an address: through the real gateway and the smarthost, with an unsubscribe link and signed. It can be sent again, while serve does not run.

It works on a terminal and with the answers on standard input, a line each. Each answer has a flag; with --yes nothing is asked.

Examples:

    consentgate init
    consentgate init --yes --hostname gate.example.org --smarthost smtp://127.0.0.1:25 --company "Example Shop"
    consentgate init --test-mail you@example.org

    consentgate init --example`
}

func (c initCmd) Run(ctx context.Context, std streams) error {
	if c.Example {
		_, err := fmt.Fprint(std.out, config.Write(config.Example()))
		return err
	}
	if c.TestMail != "" {
		if _, err := consent.ParseAddress(c.TestMail); err != nil {
			return usageError{fmt.Errorf("--test-mail: %w; nothing was written", err)}
		}
		if path, ok := c.made(); ok {
			return c.testAgain(ctx, std, path)
		}
	}
	files, err := c.place()
	if err != nil {
		return err
	}
	own, err := c.owner()
	if err != nil {
		return err
	}
	theirs, err := files.there(own)
	if err != nil {
		return err
	}
	a := newAnswers(std, c.Yes)
	cfg, err := c.configuration(ctx, a, files)
	if err != nil {
		return err
	}
	written, err := files.write(cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "wrote %s: every key is in it, with what it does\n", files.config)
	fmt.Fprintf(std.out, "wrote %s: keep a copy in a safe place, since no unsubscribe link and no opt-out is found without it\n", files.key)
	if cfg.DKIM.KeyFile != "" {
		fmt.Fprintf(std.out, "wrote %s\n", files.dkim)
	}
	for _, note := range notes(written) {
		fmt.Fprintf(std.out, "note: %s\n", note)
	}
	r := &reach{out: std.out}
	r.check(ctx, written)
	if err := sayRecord(std, written); err != nil {
		return err
	}
	c.sayNext(std, files, cfg, r.noRedis)
	err = c.test(ctx, std, a, written)
	return errors.Join(err, files.give(own, theirs)) // last, since root refuses another's key file
}

// made returns the configuration that is there already, where --test-mail is all that is asked for.
func (c initCmd) made() (path string, ok bool) {
	if (initCmd{Config: c.Config, TestMail: c.TestMail}) != c {
		return "", false
	}
	if path = c.Config; path == "" {
		found, err := config.Find()
		return found, err == nil
	}
	_, err := os.Stat(path)
	return path, err == nil
}

// testAgain sends the test mail by a configuration that an earlier init wrote.
func (c initCmd) testAgain(ctx context.Context, std streams, path string) error {
	who, err := consent.ParseAddress(c.TestMail)
	if err != nil {
		return err
	}
	cfg, err := config.Load(path, os.LookupEnv)
	if err != nil {
		return usageError{err}
	}
	fmt.Fprintf(std.out, "%s is there already: a test mail, and nothing is written\n", path)
	return sendTest(ctx, std, cfg, who)
}

// place is where the files of a new gateway are.
type place struct {
	config, state string // as absolute paths
	key, dkim     string // in state
}

// place finds them, and refuses where one is there already.
func (c initCmd) place() (place, error) {
	root := os.Geteuid() == 0
	file, state := c.Config, c.State
	if file == "" {
		file = config.Places[0]
		if root {
			file = config.Places[1]
		}
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return place{}, err
	}
	switch {
	case state == "" && root:
		state = "/var/lib/consentgate"
	case state == "":
		state = filepath.Join(filepath.Dir(file), "state")
	}
	if state, err = filepath.Abs(state); err != nil {
		return place{}, err
	}
	p := place{config: file, state: state, key: filepath.Join(state, "key"), dkim: filepath.Join(state, "dkim.pem")}
	for _, path := range []string{p.config, p.key, p.dkim} {
		if _, err := os.Lstat(path); err == nil {
			return place{}, fmt.Errorf("%s exists already and is never overwritten: for a second gateway give --config and --state; for a new beginning move it away", path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return place{}, err
		}
	}
	return p, nil
}

// write makes the files, the configuration last, so that it never names what is not there, and returns what serve
// will read. Where something goes wrong, what this made is removed again.
func (p place) write(cfg *config.Config) (written *config.Config, err error) {
	var made []string
	defer func() {
		if err != nil {
			for _, path := range slices.Backward(made) {
				os.Remove(path) // a folder only where nothing else is in it
			}
		}
	}()
	for _, dir := range []string{filepath.Dir(p.config), p.state} {
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			made = append(made, dir)
		}
	}
	if err := os.MkdirAll(p.state, 0o700); err != nil {
		return nil, err
	}
	if err := checkFolder(p.state); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(p.config), 0o755); err != nil {
		return nil, err
	}
	if err := keyring.Create(p.key); err != nil {
		return nil, err
	}
	made = append(made, p.key)
	if cfg.DKIM.KeyFile != "" {
		if err := makeDKIMKey(p.dkim); err != nil {
			return nil, err
		}
		made = append(made, p.dkim)
	}
	if err := writeNew(p.config, []byte(config.Write(cfg)), nil); err != nil {
		return nil, err
	}
	made = append(made, p.config)
	if written, err = config.Load(p.config, initEnv); err != nil {
		return nil, fmt.Errorf("what was written was not right, and is removed again: %w", err)
	}
	return written, nil
}

// makeDKIMKey writes a new private key to sign with.
func makeDKIMKey(path string) error {
	key, err := sign.NewKey()
	if err != nil {
		return err
	}
	return writeNew(path, key, nil)
}

// owner looks up --user; nil means that the files stay this user's.
func (c initCmd) owner() (*user.User, error) {
	if c.User == "" {
		return nil, nil
	}
	u, err := user.Lookup(c.User)
	if err != nil {
		return nil, usageError{fmt.Errorf("--user: %w", err)}
	}
	if os.Geteuid() != 0 && u.Uid != strconv.Itoa(os.Geteuid()) {
		return nil, usageError{errors.New("--user: only root gives files to another user")}
	}
	return u, nil
}

// there returns what is in the state folder already, which is not given to u, and refuses a folder that u could not use
// unless it were given somebody else's files. An empty one of this user's is given as if init had made it.
func (p place) there(u *user.User) (map[string]bool, error) {
	if u == nil {
		return nil, nil
	}
	info, err := os.Stat(p.state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(p.state)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	theirs := map[string]bool{}
	if err := fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		theirs[path] = true
		return err
	}); err != nil {
		return nil, err
	}
	switch uid, known := ownerOf(info); {
	case !known:
	case strconv.Itoa(uid) == u.Uid:
	case uid != os.Geteuid():
		return nil, fmt.Errorf("%s belongs to user %d, neither to this user nor to %s: give --state a folder that is not there yet; nothing was written", p.state, uid, u.Username)
	case len(theirs) > 1:
		return nil, fmt.Errorf("%s holds other things and does not belong to %s, so that serve could not use it: give --state a folder that is not there yet; nothing was written", p.state, u.Username)
	default:
		delete(theirs, ".")
	}
	return theirs, nil
}

// give makes the files, and all that a test mail left beside them, those of u; theirs were there before.
func (p place) give(u *user.User, theirs map[string]bool) error {
	if u == nil {
		return nil
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil { // this system has no such numbers
		return fmt.Errorf("--user: %w", err)
	}
	root, err := os.OpenRoot(p.state) // out of which no link leads that u puts there meanwhile
	if err != nil {
		return err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || theirs[path] {
			return err
		}
		return root.Lchown(path, uid, gid)
	})
	return errors.Join(err, os.Lchown(p.config, uid, gid))
}

// writeNew writes a file that is not there yet, mode 0600, after give, which may be nil. When it returns nil the file is
// on disk.
func writeNew(path string, text []byte, give func(*os.File) error) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if give != nil {
		err = give(f)
	}
	if err == nil {
		_, err = f.Write(text)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err != nil {
		os.Remove(path)
	}
	return err
}

// sayRecord prints the DNS record of the new key: as a line of a zone file, and as one string, which is what
// most forms want.
func sayRecord(std streams, cfg *config.Config) error {
	keys, err := dkimKeys(cfg)
	if err != nil {
		return err
	}
	for _, k := range keys {
		sayKey(std, k)
	}
	return nil
}

func sayKey(std streams, k *sign.Key) {
	fmt.Fprintf(std.out, "\nPublish this in the DNS, as a line of the zone file\n\n%s\n\nor in a form that asks for the name and the text of a TXT record\n\n%s\n%s\n", zoneRecord(k), k.Name(), k.Record())
}

// sayNext says what is left to do. cfg is as it was written, with ${NAME} where the environment is asked.
func (c initCmd) sayNext(std streams, p place, cfg *config.Config, noRedis bool) {
	run, flag := "consentgate", ""
	if c.User != "" {
		run = "runuser -u " + c.User + " -- consentgate"
	}
	if p.config != config.Places[1] {
		flag = " --config " + p.config
	}
	fmt.Fprintf(std.out, "\nNext\n")
	n := 0
	step := func(format string, args ...any) {
		n++
		fmt.Fprintf(std.out, "%2d. "+format+"\n", append([]any{n}, args...)...)
	}
	if cfg.Smarthost.Password == passwordFromEnv {
		step("put the smarthost's password into the environment, as %s", passwordVariable)
	}
	if noRedis {
		step("start the Redis that consent.store names")
	}
	if strings.HasPrefix(cfg.Unsubscribe.BaseURL, "https:") {
		step("let the web server of %s pass requests to http://%s", cfg.Unsubscribe.BaseURL, cfg.Unsubscribe.Listen)
	}
	dns := ""
	if cfg.DKIM.Domain != "" {
		dns = " --dns"
	}
	step("%s check-config%s%s", run, flag, dns)
	step("%s serve%s", run, flag)
	step("point the sender at %s", strings.Join(cfg.SMTP.Listen, " or "))
	fmt.Fprintf(std.out, "While serve does not run, a test mail goes out with: %s init%s --test-mail ADDRESS\n", run, flag)
}

// test sends the test mail, where there is somebody to send it to.
func (c initCmd) test(ctx context.Context, std streams, a *answers, cfg *config.Config) error {
	who, err := c.testAddress(a)
	if err != nil || who == (consent.Address{}) {
		return err
	}
	if cfg.Smarthost.Password == unsetPassword {
		return fmt.Errorf("no test mail: the environment variable %s is not set; the files are written", passwordVariable)
	}
	if err := sendTest(ctx, std, cfg, who); err != nil {
		return fmt.Errorf("%w; the files are written, and --test-mail sends it again", err)
	}
	return nil
}

// testAddress returns whom the test mail is for, the zero address for nobody.
func (c initCmd) testAddress(a *answers) (consent.Address, error) {
	if c.TestMail != "" {
		return consent.ParseAddress(c.TestMail) // which was tried before anything was asked
	}
	if c.Yes {
		return consent.Address{}, nil
	}
	fmt.Fprintf(a.std.err, "\nA test mail goes through the gateway and the smarthost now; best once the record is in the DNS.\n")
	for {
		to, err := a.line("Send it to (empty: to nobody)")
		if err != nil || to == "" {
			return consent.Address{}, nil // where the answers end here, nobody was named
		}
		who, err := consent.ParseAddress(to)
		if err == nil {
			return who, nil
		}
		if a.terminal == nil {
			return who, usageError{fmt.Errorf("no test mail: %w; the files are written", err)}
		}
		fmt.Fprintln(a.std.err, err)
	}
}

// loopback are the web servers on this machine, whose word on where a reader comes from is believed.
func loopback() []netip.Prefix { return config.Default().SMTP.AllowNetworks }
