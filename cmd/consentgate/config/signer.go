package config

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

func loadSigner(k DKIM) error {
	text, err := os.ReadFile(k.KeyFile)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("%s is not PEM", k.KeyFile)
	}
	_, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	return err
}
