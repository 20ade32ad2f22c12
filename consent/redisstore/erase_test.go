package redisstore

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consentgate/consentgate/consent"
	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/consent/storetest"
)

// files returns what lies in a server's folder, folded to lower case.
func (p *process) files(t *testing.T) (all []byte, names string) {
	t.Helper()
	err := filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		all, names = append(all, bytes.ToLower(text)...), names+" "+d.Name()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, names
}

// Who is erased is gone from Redis at once, and from its snapshot and its append-only file once these
// were written anew: in no spelling, nor what stood for them. The files are kept uncompressed here, so
// that what is in them can be found.
func TestErasedIsNotInRedisFiles(t *testing.T) {
	p := start(t, storetest.FreePort(t), "--appendonly", "yes", "--aof-use-rdb-preamble", "no", "--rdbcompression", "no", "--appendfsync", "always")
	s := open(t, "redis://"+p.addr, keyring.Ephemeral())
	rdb := bare(t, p.addr)
	const mailbox = "Quentin.Zebra+Offers@Rare-Domain.example"
	who, err := consent.ParseAddress(mailbox)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		c := consent.Change{Who: who, Scope: "newsletter", Open: consent.Granted, Source: consent.FromPage, Notice: fmt.Sprint(i), Origin: "net 192.0.2.77/32", Time: noon}
		rs, err := s.Apply(t.Context(), append(unsubscribe(person(t, i)), c))
		if err != nil || rs[1].Err != nil {
			t.Fatal(rs, err)
		}
	}
	key := hashKey(s.Key(who))
	traces := map[string]string{"origin": "192.0.2.77", "sealed": rdb.HGet(t.Context(), key, consent.AddressField).Val(), "head": rdb.HGet(t.Context(), key, consent.HeadField).Val()}
	for i, event := range rdb.LRange(t.Context(), listKey(s.Key(who)), 0, -1).Val() {
		traces[fmt.Sprint("event ", i)] = event
	}
	if len(traces) != 8 {
		t.Fatalf("%q", traces)
	}
	stored := len(traces) - 1 // the origin is in the events
	local, _, _ := strings.Cut(mailbox, "@")
	for _, text := range []string{mailbox, who.String(), local, strings.ToLower(local), who.Domain()} {
		traces[text] = text
		traces["hex "+text] = hex.EncodeToString([]byte(text))
		for shift := range 3 { // wherever it begins
			b := base64.StdEncoding.EncodeToString(append(make([]byte, shift), text...))
			traces[fmt.Sprintf("base64 %s %d", text, shift)] = b[(shift*8+5)/6 : len(b)-4]
		}
	}
	found := func() (all []string) {
		t.Helper()
		text, names := p.files(t)
		for _, name := range []string{"dump.rdb", ".aof"} {
			if !strings.Contains(names, name) {
				t.Fatalf("no %s among%s", name, names)
			}
		}
		for what, trace := range traces {
			if bytes.Contains(text, bytes.ToLower([]byte(trace))) {
				all = append(all, what)
			}
		}
		return all
	}
	write := func() {
		t.Helper()
		if err := rdb.Save(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if err := rdb.BgRewriteAOF(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		storetest.Eventually(t, "the rewrite", func() error {
			info, err := rdb.Info(t.Context(), "persistence").Result()
			if err == nil && (infoValue(info, "aof_rewrite_in_progress") != "0" || infoValue(info, "aof_rewrite_scheduled") != "0" || infoValue(info, "aof_last_bgrewrite_status") != "ok") {
				err = fmt.Errorf("%s", info)
			}
			return err
		})
	}
	write()
	if before := found(); len(before) < stored {
		t.Fatalf("before, only %q of what is searched for: this test looks for the wrong things", before)
	} else {
		for _, what := range before {
			if strings.Contains(what, "ebra") || strings.Contains(what, "domain") {
				t.Errorf("before the erasure %s stands in the open", what)
			}
		}
	}
	if err := s.Erase(t.Context(), who); err != nil {
		t.Fatal(err)
	}
	if n := rdb.Exists(t.Context(), key, listKey(s.Key(who))).Val(); n != 0 {
		t.Errorf("%d keys of the erased are there", n)
	}
	write()
	// The old parts of the append-only file are deleted by a thread of the server.
	storetest.Eventually(t, "after Erase, in the files", func() error {
		if after := found(); after != nil {
			return fmt.Errorf("%q", after)
		}
		return nil
	})
	if text, _ := p.files(t); !bytes.Contains(text, []byte(strings.ToLower(hashKey(s.Key(person(t, 3)))))) {
		t.Error("a neighbour is not in the files: this test looks at the wrong ones")
	}
}
