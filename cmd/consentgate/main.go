// Command consentgate is an SMTP relay between a mail sender and its smarthost that enforces
// each recipient's consent to open and click tracking.
//
// Here is one file a verb; each reads the configuration, wires the packages that do the work
// and turns errors into one line and an exit status: 0 done, 1 failed, 2 wrong usage or wrong
// configuration. It has no logic of its own about mail or consent.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/consentgate/consentgate/cmd/consentgate/config"
)

// commands are the verbs; kong reads the tags.
type commands struct {
	Init           initCmd           `cmd:"" help:"Ask what is needed, and write a configuration and its keys."`
	Serve          serveCmd          `cmd:"" help:"Run the gateway."`
	Demo           demoCmd           `cmd:"" help:"Show the gateway at work, with nothing but this program."`
	CheckConfig    checkConfigCmd    `cmd:"" help:"Say every mistake in the configuration file, and what can be reached."`
	Health         healthCmd         `cmd:"" help:"Ask the running gateway whether it is ready, or alive."`
	Inspect        inspectCmd        `cmd:"" help:"List every tracker in a message, or compare the copies of one mailing."`
	Rewrite        rewriteCmd        `cmd:"" help:"Filter: a message on standard input, one person's copy on standard output."`
	Consent        consentCmd        `cmd:"" help:"Read and write what people agreed to."`
	Queue          queueCmd          `cmd:"" help:"Look at what waits to be delivered, and steer it."`
	Keygen         keygenCmd         `cmd:"" help:"Write a new key file; never overwrites one."`
	HashPassword   hashPasswordCmd   `cmd:"" help:"Print the hash of a password, for [[login]]."`
	VerifyDelivery verifyDeliveryCmd `cmd:"" help:"Say what was put back or changed behind the gateway."`
	WebhookSecret  webhookSecretCmd  `cmd:"" help:"Print what the receiver of the webhook checks signatures with."`
	Version        versionCmd        `cmd:"" help:"Print version, commit and Go version."`
}

// streams are what a verb reads and prints.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// usageError is wrong usage or wrong configuration: exit status 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errReported says that a verb failed and has already printed why.
var errReported = errors.New("failed")

func main() {
	// Where Go's own resolver cannot read all of nsswitch.conf, a program with cgo asks libc, which nothing can stop.
	net.DefaultResolver.PreferGo = true
	os.Exit(run(context.Background(), os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

// untilSignal returns a context that ends with the first SIGTERM or SIGINT, which asks for an
// orderly end. From then on a second one ends the program at once. It is for the verbs that
// serve; the others end at the first.
func untilSignal(ctx context.Context) context.Context {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx
}

// hangups yields SIGHUPs from now on. Without somebody who takes them they end no program.
func hangups() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c
}

// run parses the arguments, runs the verb and returns the exit status.
func run(ctx context.Context, args []string, std streams) int {
	if len(args) > 0 { // as other programs have it
		switch args[0] {
		case "--version":
			args = []string{"version"}
		case "help":
			args = append(slices.Clone(args[1:]), "--help")
		}
	}
	verb, err := newParser(ctx, std).Parse(args)
	if err != nil {
		at := "consentgate"
		var parse *kong.ParseError
		if errors.As(err, &parse) && parse.Context.Selected() != nil {
			at = parse.Context.Selected().FullPath()
		}
		return report(std.err, usageError{fmt.Errorf("%w; see %s --help", err, at)})
	}
	return report(std.err, verb.Run())
}

// newParser is the command: its verbs, their flags and what is said of them. The man page and the shell
// completions in deploy are made of it.
func newParser(ctx context.Context, std streams) *kong.Kong {
	parser, err := kong.New(&commands{},
		kong.Name("consentgate"),
		kong.Description("An SMTP relay that enforces each recipient's consent to open and click tracking.\n\nTry it first, with nothing but this program:  consentgate demo"),
		kong.Writers(std.out, std.err),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(std),
	)
	if err != nil {
		panic("consentgate: the verbs: " + err.Error()) // a mistake in a tag; every test would show it
	}
	return parser
}

// report prints err, a line for each mistake, and returns the exit status that it calls for.
func report(w io.Writer, err error) int {
	var wrongUsage usageError
	var mistakes config.Mistakes
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errReported):
		return 1
	case errors.As(err, &mistakes):
		fmt.Fprintln(w, mistakes.Error())
		return 2
	}
	fmt.Fprintln(w, "consentgate: "+printable(strings.ReplaceAll(err.Error(), "\n", " ")))
	if errors.As(err, &wrongUsage) {
		return 2
	}
	return 1
}

// configFlag is --config, for the verbs that read the file.
type configFlag struct {
	Config string `placeholder:"FILE" help:"Configuration file. Without it: consentgate.toml in the working directory, then /etc/consentgate/consentgate.toml."`
}

// load finds, reads and checks the configuration file. Its errors are wrong usage.
func (f configFlag) load() (*config.Config, error) {
	path, err := f.path()
	if err != nil {
		return nil, err
	}
	cfg, err := config.Load(path, os.LookupEnv)
	if err != nil {
		return nil, usageError{err}
	}
	return cfg, nil
}

func (f configFlag) path() (string, error) {
	if f.Config != "" {
		return f.Config, nil
	}
	path, err := config.Find()
	if err != nil {
		return "", usageError{err}
	}
	return path, nil
}
