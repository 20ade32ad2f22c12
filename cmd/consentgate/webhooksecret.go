package main

import (
	"fmt"

	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/relay/outbox"
)

type webhookSecretCmd struct{ configFlag }

func (webhookSecretCmd) Help() string {
	return `The receiver of the webhook checks signatures with it. There is one for each secret in the key file, the current one first; while there are several, each call is signed by all of them, so that a receiver can change over when it likes.

Example:

    consentgate webhook-secret --config /etc/consentgate/consentgate.toml`
}

func (w webhookSecretCmd) Run(std streams) error {
	cfg, err := w.load()
	if err != nil {
		return err
	}
	ring, err := keyring.Load(cfg.KeyFile)
	if err != nil {
		return usageError{err}
	}
	for _, key := range ring.Webhook() {
		fmt.Fprintln(std.out, outbox.Secret(key))
	}
	return nil
}
