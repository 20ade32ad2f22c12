package redisstore

import (
	"errors"
	"fmt"
	neturl "net/url"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// A mail waits while the store is asked, and what happens when it does not answer is decided by
// the operator's policy; so a store that is gone must be noticed fast.
const (
	dialTimeout = 300 * time.Millisecond
	readTimeout = 300 * time.Millisecond
	poolTimeout = 500 * time.Millisecond
)

// options reads a store's url. Errors never repeat it, since a password may stand in it.
func options(url string) (*redis.Options, error) {
	u, err := neturl.Parse(url)
	if err != nil {
		return nil, errors.New("the store's address is no URL, such as redis://127.0.0.1:6379/0 (a special character in the password is written %XX)")
	}
	switch u.Scheme {
	case "redis", "rediss", "unix":
	case "redis+unix":
		u.Scheme = "unix"
	case "redis+sentinel", "redis+cluster", "rediss+sentinel", "rediss+cluster":
		return nil, fmt.Errorf("stores of the kind %s:// are not supported yet: use redis://, rediss:// or redis+unix://", u.Scheme)
	default:
		return nil, fmt.Errorf("no store has addresses of the kind %q: use redis://, rediss:// or redis+unix://", u.Scheme)
	}
	opts, err := redis.ParseURL(u.String())
	if err != nil {
		return nil, fmt.Errorf("the store's address: %w", err)
	}
	// What the URL's parameters set stays.
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&opts.DialTimeout, dialTimeout)
	set(&opts.ReadTimeout, readTimeout)
	set(&opts.WriteTimeout, readTimeout)
	set(&opts.PoolTimeout, poolTimeout)
	set(&opts.MinRetryBackoff, 2*time.Millisecond)
	set(&opts.MaxRetryBackoff, 10*time.Millisecond)
	opts.ContextTimeoutEnabled = true
	if opts.MaxRetries == 0 {
		opts.MaxRetries = 1
	}
	opts.DialerRetries = 1
	opts.DisableIdentity = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return opts, nil
}
