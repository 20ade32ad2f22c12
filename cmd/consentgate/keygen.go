package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/relay/sign"
)

type keygenCmd struct {
	File     string `arg:"" help:"Where to write it. It must not exist, but with --rotate."`
	DKIM     bool   `name:"dkim" help:"Make a key to sign copies with (RSA-2048), and print its block of the configuration and its DNS record."`
	Domain   string `placeholder:"D" help:"With --dkim: the domain of the From addresses."`
	Selector string `placeholder:"S" help:"With --dkim: where in that domain the DNS has the key."`
	Rotate   bool   `help:"Put a new secret first into a key file that is there: it makes everything new, and those behind it still open what they made."`
	Behind   bool   `help:"With --rotate: put it last, so that the file can be given to every gateway before anything is made with it."`
	ToFront  bool   `help:"With --rotate: make no new secret, and put the last one first."`
}

func (keygenCmd) Help() string {
	return `Every key of the gateway is derived from this file: keep a copy of it in a safe place. Without it the opt-outs in the store can never be found again, and no unsubscribe link that was sent opens any more.

With --rotate the lookup line and the older secrets stay, and so do owner and mode of the file; a gateway takes the new secret at its next start. Where several gateways have the file: put the secret in with --behind, give the file to all and start each again; then put it first with --to-front, give the file to all, and start each again.

With --dkim the file is a DKIM key in PEM, mode 0600; made by root it belongs to the owner of its folder.

Examples:

    consentgate keygen /var/lib/consentgate/key

    consentgate keygen --rotate /var/lib/consentgate/key

    consentgate keygen --dkim /var/lib/consentgate/dkim2.pem --domain example.org --selector gate2`
}

func (k keygenCmd) Run(std streams) error {
	switch {
	case k.DKIM && k.Rotate:
		return usageError{errors.New("--dkim makes a key and --rotate changes a key file: one of the two")}
	case !k.DKIM && (k.Domain != "" || k.Selector != ""):
		return usageError{errors.New("--domain and --selector are for --dkim")}
	case !k.Rotate && (k.Behind || k.ToFront):
		return usageError{errors.New("--behind and --to-front are for --rotate")}
	case k.Behind && k.ToFront:
		return usageError{errors.New("--behind and --to-front: one of the two")}
	case k.DKIM:
		return k.dkim(std)
	case k.ToFront:
		n, err := keyring.ToFront(k.File)
		if err != nil {
			return err
		}
		fmt.Fprintf(std.out, "the secret that was the last of %d in %s is the first: keep a copy of the file, and start the gateway again\n", n, k.File)
		return nil
	case k.Rotate:
		n, err := keyring.Rotate(k.File, k.Behind)
		if err != nil {
			return err
		}
		where := "first"
		if k.Behind {
			where = "last"
		}
		fmt.Fprintf(std.out, "put a new secret into %s, the %s of %d: keep a copy of the file, and start the gateway again\n", k.File, where, n)
		return nil
	}
	if err := keyring.Create(k.File); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "wrote %s\n", k.File)
	return nil
}

// dkim makes a key to sign with.
func (k keygenCmd) dkim(std streams) error {
	if k.Domain == "" || k.Selector == "" {
		return usageError{errors.New("--dkim needs --domain and --selector")}
	}
	if _, err := newSelector(k.Selector); err != nil {
		return usageError{fmt.Errorf("--selector: %w", err)}
	}
	text, err := sign.NewKey()
	if err != nil {
		return err
	}
	key, err := sign.ParseKey(text, k.Domain, k.Selector) // which says what is wrong with the two before anything is written
	if err != nil {
		return usageError{err}
	}
	if err := writeNew(k.File, text, giveAsFolder); err != nil {
		return err
	}
	file, err := filepath.Abs(k.File)
	if err != nil {
		return err
	}
	domain, err := ascii(k.Domain)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "wrote %s\n\nAdd this to the configuration, and send the gateway SIGHUP once the DNS has the record\n\n[[dkim.key]]\ndomain = %q\nselector = %q\nkey_file = %q\n", k.File, domain, k.Selector, file)
	sayKey(std, key)
	return nil
}
