package logbook

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(NewJSON(&b, slog.LevelInfo))
	log.Debug("not this")
	log.Info("a\x7fb", "next", 4*time.Second, slog.Group("in", "in", 90*time.Millisecond), "reply", "\x1b[31m é§ \u009b31m\x7f")
	if strings.ContainsAny(b.String(), "\x1b\x7f\u009b") {
		t.Errorf("%q", b.String())
	}
	var line struct {
		Msg, Next, Reply string
		In               struct{ In string }
	}
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if line.Msg != "a\x7fb" || line.Next != "4s" || line.In.In != "90ms" || line.Reply != "\x1b[31m é§ \u009b31m\x7f" {
		t.Errorf("%+v", line)
	}
}
