package main

import (
	"fmt"

	"github.com/consentgate/consentgate/consent/keyring"
)

type keygenCmd struct {
	File string `arg:"" help:"Where to write it. It must not exist."`
}

func (keygenCmd) Help() string {
	return `Every key of the gateway is derived from this file: keep a copy of it in a safe place. Without it the opt-outs in the store can never be found again, and no unsubscribe link that was sent opens any more.

Example:

    consentgate keygen /var/lib/consentgate/key`
}

func (k keygenCmd) Run(std streams) error {
	if err := keyring.Create(k.File); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "wrote %s\n", k.File)
	return nil
}
