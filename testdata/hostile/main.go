// Command hostile attacks a built gateway as strangers, senders and readers might who mean it harm: by
// many connections, by slowness, by messages made to be dear, by guessing. make hostile runs it.
//
// Each attack meets a gateway of its own. Meanwhile an honest sender sends a mail, and an honest reader
// opens the unsubscribe page, each a few times a second on a new connection. What the attack cost is
// printed as a table: the gateway's memory and CPU time, how long the honest waited, how much log it wrote.
// An attack that stops the gateway, takes more memory than is stated for it, keeps the honest waiting
// longer than that, or lets something through that should not be, is an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// limit bounds a whole run, whatever hangs.
const limit = 14 * time.Minute

func main() {
	binary := flag.String("binary", "", "attack this gateway instead of one built now")
	results := flag.String("results", "", "also write the table to this file")
	only := flag.String("only", "", "attacks whose name this regular expression finds")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := run(ctx, *binary, *results, *only); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
}

// attack is one way to do harm.
type attack struct {
	name   string
	memory float64       // MB that the gateway may take at its highest
	wait   time.Duration // the longest that an honest sender or reader may wait
	// run does it and says in a few words what became of it. It returns an error where the gateway
	// gave way.
	run func(ctx context.Context, h *house, g *gateway) (string, error)
}

func run(ctx context.Context, binary, results, only string) (err error) {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	h, err := newHouse(ctx, binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	var table strings.Builder
	line := func(format string, a ...any) {
		fmt.Printf(format, a...)
		fmt.Fprintf(&table, format, a...)
	}
	line("| attack | what became of it | took | CPU | memory before → highest → after | open files, most | log | honest mails | longest wait | pages | longest wait |\n")
	line("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	var wrong error
	count := 0
	for _, list := range [][]attack{smtpAttacks, messageAttacks(), webAttacks} {
		for _, a := range list {
			if !match.MatchString(a.name) {
				continue
			}
			count++
			row, err := h.suffer(ctx, a)
			line("%s", row)
			if err != nil {
				err = fmt.Errorf("%s: %w", a.name, err)
				fmt.Fprintln(os.Stderr, "hostile:", err)
				wrong = errors.Join(wrong, err)
			}
			if ctx.Err() != nil {
				return errors.Join(wrong, ctx.Err())
			}
		}
	}
	if count == 0 {
		return fmt.Errorf("no attack's name matches %q", only)
	}
	if wrong != nil {
		return wrong
	}
	if results != "" {
		return os.WriteFile(results, []byte(head(h.version)+table.String()+tail), 0o644)
	}
	return nil
}
