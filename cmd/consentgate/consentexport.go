package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/consentgate/consentgate/consent/transfer"
)

type consentExportCmd struct {
	configFlag
	Address       string `arg:"" optional:"" help:"One person: all that is held, the history too, as JSON. Without it: everybody's records."`
	Format        string `placeholder:"ndjson|csv" help:"Without it: what the name of the file says, else ndjson."`
	WithAddresses bool   `help:"Addresses in the clear; without it a keyed hash stands in their place."`
	Withdrawn     bool   `help:"Only what people refused: unsubscribed, denied. To be kept apart from backups of the store, which may be older."`
	From          string `placeholder:"CURSOR" help:"Go on where an export to standard output ended."`
	Output        string `short:"o" placeholder:"FILE" help:"The file to write. The same command again goes on where it ended."`
}

func (consentExportCmd) Help() string {
	return `Only an export with addresses can be imported again.

Examples:

    consentgate consent export anna@example.org

    consentgate consent export --with-addresses -o backup.csv

    consentgate consent export --with-addresses --withdrawn -o withdrawn.ndjson`
}

// mediaTypes are what the API calls the formats.
var mediaTypes = map[transfer.Format]string{transfer.NDJSON: "application/x-ndjson", transfer.CSV: "text/csv"}

// formatFlag reads --format; without it the name of a file decides.
func formatFlag(format, file string) (transfer.Format, error) {
	switch f := transfer.Format(format); {
	case f == transfer.NDJSON, f == transfer.CSV:
		return f, nil
	case format != "":
		return "", usageError{fmt.Errorf("--format: it is ndjson or csv, not %q", format)}
	case strings.EqualFold(filepath.Ext(file), ".csv"):
		return transfer.CSV, nil
	}
	return transfer.NDJSON, nil
}

func (c consentExportCmd) Run(ctx context.Context, std streams) error {
	if c.Address != "" {
		if c.Format != "" || c.WithAddresses || c.Withdrawn || c.From != "" || c.Output != "" {
			return usageError{errors.New("the flags are for everybody's records: leave them out, or ADDRESS")}
		}
		body, err := addressFlags{c.configFlag, c.Address}.ask(ctx, "GET", "/v1/export/")
		if err != nil {
			return err
		}
		_, err = std.out.Write(body)
		return err
	}
	format, err := formatFlag(c.Format, c.Output)
	if err != nil {
		return err
	}
	if c.Output != "" && c.From != "" {
		return usageError{errors.New("--from is for standard output: with a file, the same command again goes on where it ended")}
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	a, err := connect(ctx, cfg, openKept)
	if err != nil {
		return err
	}
	defer a.close()
	e := &exporting{api: a, format: format, addresses: c.WithAddresses, withdrawn: c.Withdrawn, progress: newProgress(std.err, time.Now, 0, 0)}
	if c.Output != "" {
		return e.toFile(ctx, std, c.Output)
	}
	for cursor := c.From; ; {
		page, next, err := e.page(ctx, cursor)
		if err == nil {
			_, err = std.out.Write(page)
		}
		switch {
		case err != nil && cursor != "":
			return fmt.Errorf("%w; go on with --from %s", err, cursor)
		case err != nil || next == "":
			return err
		}
		cursor = next
	}
}

// exporting is an export under way.
type exporting struct {
	*api
	format    transfer.Format
	addresses bool
	withdrawn bool
	progress  *progress
	lines     int
}

// pagePeople is how many people a page has.
const pagePeople = "5000"

// page returns the page behind a cursor and the cursor of the next one, "" behind the last.
func (e *exporting) page(ctx context.Context, cursor string) (page []byte, next string, err error) {
	q := url.Values{"limit": {pagePeople}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	if e.addresses {
		q.Set("with_addresses", "true")
	}
	if e.withdrawn {
		q.Set("withdrawn", "true")
	}
	page, header, err := e.send(ctx, longTime, "GET", "/v1/consent?"+q.Encode(), http.Header{"Accept": {mediaTypes[e.format]}}, nil)
	if err != nil {
		return nil, "", err
	}
	if link := header.Get("Link"); link != "" {
		target, _, _ := strings.Cut(strings.TrimPrefix(link, "<"), ">")
		u, err := url.Parse(target)
		if err != nil || u.Query().Get("cursor") == "" {
			return nil, "", errAnswer(fmt.Errorf("its Link field is %q", link))
		}
		next = u.Query().Get("cursor")
	}
	e.lines += bytes.Count(page, []byte("\n"))
	e.progress.at(0, e.lines)
	return page, next, nil
}

// exportState is what stands beside a file that is not whole yet, so that the export can go on.
type exportState struct {
	Cursor    string          `json:"cursor"`
	Bytes     int64           `json:"bytes"` // of the file, up to the cursor
	Format    transfer.Format `json:"format"`
	Addresses bool            `json:"with_addresses"`
	Withdrawn bool            `json:"withdrawn,omitempty"`
}

// toFile writes beside the file until all is there, and goes on with what an earlier run wrote.
func (e *exporting) toFile(ctx context.Context, std streams, name string) error {
	if _, err := os.Lstat(name); err == nil {
		return fmt.Errorf("%s is there already: move it away", name)
	}
	part, statePath := name+".part", name+".resume"
	state := exportState{Format: e.format, Addresses: e.addresses, Withdrawn: e.withdrawn}
	if old, err := readState[exportState](statePath); err == nil {
		if old.Format != e.format || old.Addresses != e.addresses || old.Withdrawn != e.withdrawn {
			return fmt.Errorf("%s is of an export with another --format, --with-addresses or --withdrawn: use the same, or remove it", statePath)
		}
		state = old
		fmt.Fprintf(std.err, "going on behind %d bytes\n", state.Bytes)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil {
		return err
	} else if info.Size() < state.Bytes {
		return fmt.Errorf("%s is shorter than it was: remove %s and begin again", part, statePath)
	}
	if err := file.Truncate(state.Bytes); err != nil {
		return err
	}
	if _, err := file.Seek(state.Bytes, io.SeekStart); err != nil {
		return err
	}
	for {
		page, next, err := e.page(ctx, state.Cursor)
		if p := (problem{}); errors.As(err, &p) && p.Field == "cursor" {
			return fmt.Errorf("%w: remove %s", err, statePath)
		} else if err != nil {
			return fmt.Errorf("%w; the same command again goes on", err)
		}
		if _, err := file.Write(page); err != nil {
			return err
		}
		if next == "" {
			break
		}
		state.Cursor, state.Bytes = next, state.Bytes+int64(len(page))
		if err := file.Sync(); err != nil { // before the state says so
			return err
		}
		if err := writeState(statePath, state); err != nil {
			return err
		}
	}
	e.progress.clear()
	if err := errors.Join(file.Sync(), file.Close(), os.Rename(part, name)); err != nil {
		return err
	}
	if err := os.Remove(statePath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fmt.Fprintf(std.err, "%d lines written by this run\n", e.lines)
	return nil
}

// readState reads where a long job stood.
func readState[T any](path string) (state T, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return state, err
	}
	if err := json.Unmarshal(text, &state); err != nil {
		return state, fmt.Errorf("%s is damaged, remove it and begin again: %w", path, err)
	}
	return state, nil
}

// writeState writes it, so that there is the old one or the new one, whatever happens.
func writeState(path string, state any) error {
	text, err := json.Marshal(state)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
