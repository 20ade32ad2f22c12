package demo

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOnce(t *testing.T) {
	if err := Run(t.Context(), Options{Once: true, Out: os.Stdout}); err != nil {
		t.Fatal(err)
	}
}
