package spool

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkAdd takes messages over on the real disk; done messages are removed along the way, as
// a relay does. Beside it, what a file a message costs: written, synced, and its folder synced.
func BenchmarkAdd(b *testing.B) {
	for _, size := range []int{2 << 10, 50 << 10} {
		body := bytes.Repeat([]byte("x"), size)
		for _, callers := range []int{1, 10, 50} {
			b.Run(fmt.Sprintf("spool/%dKB/%d", size>>10, callers), func(b *testing.B) {
				s, err := Open(b.TempDir(), Options{})
				must(b, err)
				defer s.Close()
				run(b, callers, size, func(id string) error {
					n := newMessage(id, 1, "")
					n.Size, n.Body = int64(size), bytes.NewReader(body)
					return s.Add(n)
				})
			})
			b.Run(fmt.Sprintf("deliver/%dKB/%d", size>>10, callers), func(b *testing.B) {
				s, err := Open(b.TempDir(), Options{})
				must(b, err)
				defer s.Close()
				run(b, callers, size, func(id string) error {
					n := newMessage(id, 1, "")
					n.Size, n.Body = int64(size), bytes.NewReader(body)
					if err := s.Add(n); err != nil {
						return err
					}
					return s.Update(id, []Change{{Index: 0, Done: true}})
				})
			})
			b.Run(fmt.Sprintf("file/%dKB/%d", size>>10, callers), func(b *testing.B) {
				dir := b.TempDir()
				run(b, callers, size, func(id string) error {
					f, err := os.Create(filepath.Join(dir, id))
					if err != nil {
						return err
					}
					defer f.Close()
					if _, err := f.Write(body); err != nil {
						return err
					}
					if err := f.Sync(); err != nil {
						return err
					}
					return osFiles{}.SyncDir(dir)
				})
			})
		}
	}
}

func run(b *testing.B, callers, size int, add func(id string) error) {
	b.SetBytes(int64(size))
	b.ReportAllocs()
	var n atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for range callers {
		all.Go(func() {
			for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
				if err := add("m" + strconv.FormatInt(i, 10)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
