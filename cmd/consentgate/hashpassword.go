package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/term"

	"github.com/consentgate/consentgate/relay/login"
)

type hashPasswordCmd struct{}

func (hashPasswordCmd) Help() string {
	return `Prints what stands behind password_hash in a [[login]]: argon2id, from which the password cannot be learnt. On a terminal it asks for the password, twice and without showing it; else it takes one line of standard input.

Examples:

    consentgate hash-password
    openssl rand -base64 24 | tee password | consentgate hash-password`
}

func (hashPasswordCmd) Run(std streams) error {
	password, err := askPassword(std)
	if err != nil {
		return err
	}
	fmt.Fprintln(std.out, login.Hash(password))
	return nil
}

// maxPassword is far more than anybody types.
const maxPassword = 1024

func askPassword(std streams) (string, error) {
	var password string
	if file := terminal(std); file != nil {
		var typed [2]string
		for i, prompt := range []string{"Password: ", "Again: "} {
			fmt.Fprint(std.err, prompt)
			text, err := term.ReadPassword(int(file.Fd()))
			fmt.Fprintln(std.err)
			if err != nil {
				return "", fmt.Errorf("password: %w", err)
			}
			typed[i] = string(text)
		}
		if typed[0] != typed[1] {
			return "", errors.New("the two are not the same; nothing was hashed")
		}
		password = typed[0]
	} else {
		line, err := bufio.NewReader(io.LimitReader(std.in, maxPassword+3)).ReadString('\n')
		if err != nil && err != io.EOF {
			return "", fmt.Errorf("password: %w", err)
		}
		password = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	}
	switch {
	case password == "":
		return "", errors.New("the password is empty")
	case len(password) > maxPassword:
		return "", fmt.Errorf("the password is over %d bytes", maxPassword)
	case strings.ContainsRune(password, 0):
		return "", errors.New("the password holds a NUL, which no SMTP client could send") // RFC 4616 §2
	}
	return password, nil
}
