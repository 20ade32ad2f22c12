package config

import (
	"slices"
	"testing"
	"time"
)

func TestNeedRestart(t *testing.T) {
	old, new := Default(), Default()
	new.Consent.WhenUnset.Open = "granted"
	new.Rewrite.Observe = true
	new.DKIM.Selector = "next"
	new.Delivery.FirstRetry = time.Second
	new.Login = []Login{{Name: "shop"}}
	if got := NeedRestart(old, new); len(got) != 0 {
		t.Errorf("%q", got)
	}
	new.Hostname = "other.example.org"
	new.SMTP.Listen = []string{"127.0.0.1:25"}
	new.Log.Level = "debug"
	if got, want := NeedRestart(old, new), []string{"hostname", "smtp.listen", "log.level"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
