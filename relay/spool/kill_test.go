package spool

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// loadOptions make segments and clearing out frequent.
var loadOptions = Options{SegmentSize: 128 << 10, ReserveSize: 32 << 10, BigBody: 8 << 10}

// load is the process that TestKill kills: it says each thing that the spool promised, after that.
func load(dir string) {
	s, err := Open(dir, loadOptions)
	if err != nil {
		fmt.Println("failed", err)
		return
	}
	var mu sync.Mutex
	say := func(words ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(words...)
	}
	round := os.Getenv("SPOOL_TEST_ROUND")
	var all sync.WaitGroup
	for c := range 4 {
		all.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("r%s-%d-%d", round, c, i)
				n := newMessage(id, 2, loadBody(id))
				if i%3 == 0 { // twelfth ones wait, too
					n = newJob(id, loadBody(id))
				}
				if err := s.Add(n); err != nil {
					say("failed", err)
					return
				}
				say("added", id)
				if i%4 == 0 {
					continue // waits
				}
				for index := range n.Recipients {
					say("settling", id)
					if err := s.Update(id, []Change{{Index: index, Done: true}}); err != nil {
						say("failed", err)
						return
					}
				}
				say("settled", id)
			}
		})
	}
	all.Wait()
}

func loadBody(id string) string {
	rng := rand.New(rand.NewPCG(uint64(len(id)), uint64(id[len(id)-1])))
	return id + text(rng, rng.IntN(12<<10))
}

// TestKill kills a process that uses a spool on a real disk, again and again.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	promised := map[string]string{} // what was said last, by ID
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "SPOOL_TEST_LOAD="+dir, fmt.Sprint("SPOOL_TEST_ROUND=", round))
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			word, id, _ := strings.Cut(lines.Text(), " ")
			if word == "failed" {
				t.Error(lines.Text())
				break
			}
			promised[id] = word
			if n == 100+37*round {
				must(t, cmd.Process.Kill())
			}
		}
		cmd.Process.Kill()
		cmd.Wait()

		s, err := Open(dir, loadOptions)
		must(t, err)
		there := 0
		for id, word := range promised {
			_, ok := s.Get(id)
			switch {
			case word == "added" && !ok:
				t.Errorf("round %d: %s is lost", round, id)
			case word == "settled" && ok:
				t.Errorf("round %d: %s is there again", round, id)
			}
			if ok {
				there++
				if body, err := readBody(s, id); err != nil || body != loadBody(id) {
					t.Errorf("round %d: body of %s: %v", round, id, err)
				}
			}
		}
		all := append(s.All(), s.Jobs()...)
		if extra := len(all) - there; extra > 4 { // one a caller: added, and killed before it was said
			t.Errorf("round %d: %d messages that nobody spoke of", round, extra)
		}
		for _, m := range all { // so that the next round does not count them again
			promised[m.ID] = "added"
		}
		must(t, s.Close())
	}
}
