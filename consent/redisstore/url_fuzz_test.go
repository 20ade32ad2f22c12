package redisstore

import (
	"strings"
	"testing"
)

// FuzzURL: a store's address that is taken names hosts, and no error about any repeats the password.
func FuzzURL(f *testing.F) {
	for _, s := range []string{"", "redis://127.0.0.1:6379/0", "rediss://u:swordfish@h/1", "redis+sentinel://u:swordfish@a,b:26379/mymaster", "redis+cluster://a,b", "redis+unix:///run/redis", "redis://u:swordfish@a b/", "redis:u:swordfish@h", "u:swordfish@h", "redis://h/x?db=y", "redis://u:swordfish@h/%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, url string) {
		if strings.Contains(url, "tls_ca") { // would read a file
			return
		}
		target, err := read(url)
		if err == nil && len(target.hosts) == 0 {
			t.Fatalf("%q has no host: %+v", url, target)
		}
		c, err := client(url, 0, 0)
		if err != nil {
			if strings.Contains(url, ":swordfish@") && strings.Contains(err.Error(), "swordfish") {
				t.Fatalf("%q: %v", url, err)
			}
			return
		}
		c.Close()
	})
}
