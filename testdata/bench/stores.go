package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/consentgate/consentgate/consent/keyring"
	"github.com/consentgate/consentgate/testdata/process"
)

// storesLimit bounds the measuring of the stores.
const storesLimit = 5 * time.Minute

// stores measures what the consent stores do beside the least that can be done with the same
// server: lookups beside a bare go-redis pipeline, imports beside a bare load of as many keys, and
// what a person takes. What is compared takes turns, each round one beside the other.
func stores(ctx context.Context) (_ string, err error) {
	ctx, cancel := context.WithTimeout(ctx, storesLimit)
	defer cancel()
	dir, err := os.MkdirTemp("", "consentgate-bench-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	s := &site{dir: dir, ring: keyring.Ephemeral()}
	machine := thisMachine()
	if err := s.startRedis(ctx); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	version, err := s.redisVersion(ctx)
	if err != nil {
		return "", err
	}

	var b strings.Builder
	fmt.Fprintf(&b, "# The consent stores\n\nMeasured %s on %s.\n", time.Now().UTC().Format("2 January 2006, 15:04 UTC"), machine)
	fmt.Fprintf(&b, "Redis %s over loopback, without persistence; the file on the disk of %s.\n", version, filepath.Dir(dir))
	before, beforeOurs, start := process.MachineCPU(), s.ourCPU(), time.Now()
	for _, part := range []func(context.Context, *strings.Builder) error{s.measureLookups, s.measureImports, s.measureFootprint} {
		if err := part(ctx, &b); err != nil {
			return "", err
		}
	}
	others := max(0, process.MachineCPU()-before-(s.ourCPU()-beforeOurs))
	share := 100 * others.Seconds() / (time.Since(start).Seconds() * float64(runtime.NumCPU()))
	fmt.Fprintf(&b, "\nMeanwhile programs that have no part in this used %.0f %% of the machine.\n", share)
	if share > tooLoud {
		b.WriteString("**It was not quiet**: what is in µs or a second is not to be quoted; ratios are, with care.\n")
	}
	fmt.Fprintf(&b, "\nThis took %s. Again: make bench; this part alone: go run ./testdata/bench -only stores.\n", time.Since(start).Round(time.Second))
	return b.String(), nil
}

func (s *site) ourCPU() time.Duration { return process.CPU([]int{s.redis.PID()}) + process.OwnCPU() }
