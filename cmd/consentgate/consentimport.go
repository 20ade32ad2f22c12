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
	"os"
	"time"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/transfer"
)

type consentImportCmd struct {
	configFlag
	File       string `arg:"" help:"The file, or - for standard input."`
	Format     string `placeholder:"ndjson|csv" help:"Without it: what the name of the file says, else ndjson."`
	Map        string `placeholder:"COLUMN=MEMBER,…" help:"What the columns of a CSV file mean; nothing behind the = leaves a column out, and *= all others."`
	Scope      string `placeholder:"S" help:"The scope of lines that name none."`
	SourceTime string `placeholder:"TIME" help:"When the lines that name no time were decided: RFC 3339, or a day."`
	Notice     string `placeholder:"VERSION" help:"The notice of lines that name none."`
	DryRun     bool   `help:"Change nothing, and say what would be."`
	Resume     bool   `help:"Go on where an import of this file ended."`
}

func (consentImportCmd) Help() string {
	return `Each line has address, scope, mail, open, click, time and notice, of which one purpose at least: as JSON, or as columns. Good lines go in; each bad one is named with its number and the reason, and the exit status is then 1.

An import never undoes what somebody decided later: a line older than what is recorded is kept out, and one without a time loosens nothing that somebody denied. The same file once more does no harm.

Examples:

    consentgate consent import people.ndjson --dry-run

    consentgate consent import list.csv --map "Email Address=address,Tracking=open,*=" --scope newsletter --source-time 2026-03-01`
}

// importState is what stands beside a file whose import has not ended.
type importState struct {
	Size     int64             `json:"size"` // of the file
	Modified time.Time         `json:"modified"`
	Options  string            `json:"options"`
	Position transfer.Position `json:"position"`
	Summary  transfer.Summary  `json:"summary"`
}

func (c consentImportCmd) Run(ctx context.Context, std streams) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	if c.Resume && (c.File == "-" || c.DryRun) {
		return usageError{errors.New("--resume is for an import of a file")}
	}
	var source io.Reader = std.in
	state := importState{Options: fmt.Sprintf("%s %q %q %q %q", o.Format, c.Map, c.Scope, c.SourceTime, c.Notice)}
	var file *os.File
	if c.File != "-" {
		if file, err = os.Open(c.File); err != nil {
			return err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return err
		}
		source, state.Size, state.Modified = file, info.Size(), info.ModTime().UTC()
	}
	reader, err := transfer.NewReader(source, o)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	if c.Resume {
		if state, err = c.resume(state); err != nil {
			return err
		}
		if _, err := file.Seek(state.Position.Offset, io.SeekStart); err != nil {
			return err
		}
		reader.Resume(file, state.Position)
		fmt.Fprintf(std.err, "going on behind line %d\n", state.Position.Line)
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	a, err := connect(ctx, cfg, openConsents)
	if err != nil {
		return err
	}
	defer a.close()
	i := &importing{
		api: a, consentImportCmd: c, std: std, reader: reader, state: state, done: state.Summary, saved: c.Resume,
		progress: newProgress(std.err, time.Now, state.Size, state.Position.Offset),
	}
	if err := i.run(ctx); err != nil {
		i.progress.clear()
		if i.saved {
			return fmt.Errorf("%w; go on with --resume", err)
		}
		return err
	}
	return nil
}

// options are how the file is read.
func (c consentImportCmd) options() (o transfer.ReadOptions, err error) {
	if o.Format, err = formatFlag(c.Format, c.File); err != nil {
		return o, err
	}
	wrong := func(name string, err error) (transfer.ReadOptions, error) {
		return o, usageError{fmt.Errorf("--%s: %w", name, err)}
	}
	if c.Map != "" {
		if o.Format != transfer.CSV {
			return wrong("map", errors.New("only a CSV file has columns: say --format csv where this is one"))
		}
		if o.Columns, err = transfer.ParseColumns(c.Map); err != nil {
			return wrong("map", err)
		}
	}
	if c.Scope != "" {
		if o.Default.Scope, err = consent.ParseScope(c.Scope); err != nil {
			return wrong("scope", err)
		}
	}
	if c.SourceTime != "" {
		if o.Default.Time, err = transfer.ParseTime(c.SourceTime); err != nil {
			return wrong("source-time", err)
		}
	}
	if err := consent.CheckNotice(c.Notice); err != nil {
		return wrong("notice", err)
	}
	o.Default.Notice = c.Notice
	return o, nil
}

func (c consentImportCmd) statePath() string { return c.File + ".resume" }

// resume returns where an import of the same file, in the same way, ended.
func (c consentImportCmd) resume(now importState) (importState, error) {
	old, err := readState[importState](c.statePath())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return old, fmt.Errorf("no import of %s ended before its end here: leave --resume out", c.File)
	case err != nil:
		return old, err
	case old.Size != now.Size || !old.Modified.Equal(now.Modified):
		return old, fmt.Errorf("%s is not the file that it was: import it from its beginning, which does no harm to what is there", c.File)
	case old.Options != now.Options:
		return old, errors.New("the flags are not those of the import that ended: use the same, or import from the beginning")
	}
	return old, nil
}

// importing is an import under way: lines are read and checked here, and sent in batches, so that
// each batch that was answered is done whatever happens to the next.
type importing struct {
	*api
	consentImportCmd
	std      streams
	reader   *transfer.Reader
	state    importState
	done     transfer.Summary
	progress *progress

	body    bytes.Buffer
	numbers []int // in the file, of the lines in body
	ran     int   // lines of this run

	saved, warned bool // how far it is stands in a file; cannot be written there
}

const (
	batchLines = 4000 // which the gateway takes in one step
	batchBytes = 2 << 20
)

func (i *importing) run(ctx context.Context) error {
	for {
		row, line, err := i.reader.Next()
		var wrong *transfer.LineError
		switch {
		case errors.As(err, &wrong):
			i.done.Lines++
			i.done.Bad++
			i.ran++
			i.say(wrong.Error())
			continue
		case err == io.EOF:
			if err := i.flush(ctx); err != nil {
				return err
			}
			return i.end()
		case err != nil:
			return fmt.Errorf("%s: %w", i.File, err)
		}
		text, err := json.Marshal(row)
		if err != nil {
			return err
		}
		i.body.Write(append(text, '\n'))
		i.numbers = append(i.numbers, line)
		if len(i.numbers) == batchLines || i.body.Len() > batchBytes {
			if err := i.flush(ctx); err != nil {
				return err
			}
		}
	}
}

// say prints a line beside the progress.
func (i *importing) say(text string) {
	i.progress.clear()
	fmt.Fprintln(i.std.err, text)
}

// flush sends the batch, and counts what became of it.
func (i *importing) flush(ctx context.Context) error {
	if len(i.numbers) > 0 {
		path := "/v1/consent"
		if i.DryRun {
			path += "?dry_run=true"
		}
		answer, _, err := i.send(ctx, longTime, "POST", path, http.Header{"Content-Type": {mediaTypes[transfer.NDJSON]}}, i.body.Bytes())
		if err != nil {
			return err
		}
		if err := i.count(answer); err != nil {
			return err
		}
		i.ran += len(i.numbers)
		i.body.Reset()
		i.numbers = i.numbers[:0]
	}
	i.state.Position, i.state.Summary = i.reader.Position(), i.done
	i.progress.at(i.state.Position.Offset, i.ran)
	if i.File == "-" || i.DryRun {
		return nil
	}
	switch err := writeState(i.statePath(), i.state); {
	case err == nil:
		i.saved = true
	case !i.warned:
		i.warned = true
		i.say(fmt.Sprintf("how far the import is cannot be kept, so --resume could not go on with it: %v", err))
	}
	return nil
}

// count reads the answer to a batch: a line for each that was not taken, and how it ended.
func (i *importing) count(answer []byte) error {
	var end struct {
		Summary *transfer.Summary
		Stopped string
	}
	for line := range bytes.Lines(answer) {
		var note transfer.Note
		if err := errors.Join(json.Unmarshal(line, &note), json.Unmarshal(line, &end)); err != nil {
			return errAnswer(err)
		}
		switch {
		case end.Summary != nil || note.Line < 1 || note.Line > len(i.numbers):
		case note.Kept != nil:
			i.say(fmt.Sprintf("line %d: kept as it was recorded: %v: %s", i.numbers[note.Line-1], note.Kept, note.Detail))
		default:
			i.say((&transfer.LineError{Line: i.numbers[note.Line-1], Field: note.Field, Wrong: note.Detail}).Error())
		}
	}
	switch {
	case end.Summary == nil:
		return errors.New("the gateway's answer is cut off")
	case end.Stopped != "":
		return errors.New(end.Stopped)
	}
	i.done.Add(*end.Summary)
	return nil
}

// end says how it went.
func (i *importing) end() error {
	i.progress.clear()
	if i.File != "-" && !i.DryRun {
		if err := os.Remove(i.statePath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			i.say(fmt.Sprintf("the file with how far the import was stays: %v", err))
		}
	}
	s, would := i.done, ""
	if i.DryRun {
		would = "would be "
	}
	fmt.Fprintf(i.std.out, "%d lines: %d %schanged, %d said what was recorded, %d kept as recorded in part or in all, %d bad\n",
		s.Lines, s.Changed, would, s.Unchanged, s.Kept, s.Bad)
	if s.Bad > 0 {
		return errReported
	}
	return nil
}
