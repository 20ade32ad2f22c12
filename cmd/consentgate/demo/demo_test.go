package demo

import (
	"os"
	"testing"
)

func TestOnce(t *testing.T) {
	if err := Run(t.Context(), Options{Once: true, Out: os.Stdout}); err != nil {
		t.Fatal(err)
	}
}
