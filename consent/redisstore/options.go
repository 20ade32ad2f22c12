package redisstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	neturl "net/url"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Options are what a Store needs beyond its url. The zero Options are good.
type Options struct {
	// WaitReplicas is how many replicas must have a change before Apply confirms it; too few within
	// waitTime give consent.ErrNotDurable.
	WaitReplicas int

	// Known is a file in which the store keeps which data it knew last, so that a Redis that was
	// emptied is noticed across a restart of the gateway too. "" keeps none.
	Known string

	// Moving is for what takes people out of the store (From) or brings them there (To), which works where it is
	// being filled, or was moved, too. A new store is then none to take from, and to bring to one that is being filled.
	// Look is for what only says how the store is: it marks none that is new (ErrNothing), and leaves Known as it is.
	Moving Role

	// Ahead has connections opened before they are needed, for what serves.
	Ahead bool

	// Log gets what is wrong and stops nobody; nil is slog.Default().
	Log *slog.Logger
}

// Role is a part in moving people from store to store.
type Role int

const (
	None Role = iota
	From
	To
	Look
)

// A mail waits while the store is asked, and what happens when it does not answer is decided by
// the operator's policy; so a store that is gone must be noticed fast.
const (
	dialTimeout = 300 * time.Millisecond
	readTimeout = 300 * time.Millisecond
	poolTimeout = 500 * time.Millisecond
	// readyConns is how many connections are open ahead where that is asked for, half as many to each node of a
	// cluster: when a thousand senders come at once, the processors are too busy for a new one to be opened within
	// dialTimeout.
	readyConns = 8

	// bufferSize, in bytes, is enough for what is asked about a message. A connection has two, and there may be as many
	// connections as messages at once.
	bufferSize = 8 << 10

	waitTime = time.Second // for replicas
)

const schemes = "redis://, rediss://, redis+unix://, redis+sentinel:// or redis+cluster://"

// target is a store's url, read.
type target struct {
	kind  string   // "", "unix", "sentinel", "cluster"
	tls   bool     //
	hosts []string // several only for sentinel and cluster
	url   neturl.URL
	ca    string // file
}

// read reads a store's url. Errors never repeat it, since a password may stand in it. The hosts are
// taken out by hand: a list of them is no URL.
func read(url string) (target, error) {
	var t target
	scheme, rest, ok := strings.Cut(url, "://")
	switch scheme {
	case "redis":
	case "rediss":
		t.tls = true
	case "unix", "redis+unix":
		t.kind = "unix"
	case "redis+sentinel", "redis+cluster":
		t.kind = strings.TrimPrefix(scheme, "redis+")
	case "rediss+sentinel", "rediss+cluster":
		t.kind, t.tls = strings.TrimPrefix(scheme, "rediss+"), true
	default:
		if !ok {
			return t, errors.New("the store's address is no URL, such as redis://127.0.0.1:6379/0")
		}
		return t, fmt.Errorf("no store has addresses of the kind %q: use %s", scheme, schemes)
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	authority := rest[:end]
	at := strings.LastIndexByte(authority, '@')
	t.hosts = strings.Split(authority[at+1:], ",")
	if len(t.hosts) > 1 && t.kind != "sentinel" && t.kind != "cluster" {
		return t, fmt.Errorf("the store's address names several hosts: use redis+sentinel:// or redis+cluster:// for that")
	}
	plain := "redis://"
	if t.tls {
		plain = "rediss://"
	} else if t.kind == "unix" {
		plain = "unix://"
	}
	u, err := neturl.Parse(plain + authority[:at+1] + t.hosts[0] + rest[end:])
	if err != nil || u.Opaque != "" {
		return t, errors.New("the store's address is no URL, such as redis://127.0.0.1:6379/0 (a special character in the password is written %XX)")
	}
	q := u.Query()
	if t.ca = q.Get("tls_ca"); t.ca != "" {
		q.Del("tls_ca")
		u.RawQuery = q.Encode()
	}
	t.url = *u
	return t, nil
}

// CheckURL says what is wrong with a store's url, without connecting. Like all errors about it, its own does
// not repeat the url.
func CheckURL(url string) error {
	c, err := client(url, 0, 0)
	if err != nil {
		return err
	}
	return c.Close()
}

// client makes the client for a store's url. It does not wait for a connection; ready are opened ahead, to each
// server. slow is added to the time that an answer, and the sending of a question, may take.
func client(url string, slow time.Duration, ready int) (redis.UniversalClient, error) {
	t, err := read(url)
	if err != nil {
		return nil, err
	}
	var roots *x509.CertPool
	if t.ca != "" {
		pem, err := os.ReadFile(t.ca)
		if err != nil {
			return nil, fmt.Errorf("the store's tls_ca: %w", err)
		}
		if roots = x509.NewCertPool(); !t.tls || !roots.AppendCertsFromPEM(pem) {
			return nil, errors.New("the store's tls_ca holds no certificate in PEM, or its address is not of the kind rediss")
		}
	}
	maint := func() *maintnotifications.Config {
		return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	}
	secure := func(c *tls.Config) {
		if c != nil {
			c.MinVersion, c.RootCAs = tls.VersionTLS12, roots
		}
	}
	wrong := func(err error) error { return fmt.Errorf("the store's address: %w", err) }
	switch t.kind {
	case "cluster":
		if strings.Trim(t.url.Path, "/") != "" {
			return nil, errors.New("the store's address: a cluster has one database, so nothing stands behind the hosts but ?options")
		}
		o, err := redis.ParseClusterURL(t.withHosts().String())
		if err != nil {
			return nil, wrong(err)
		}
		secure(o.TLSConfig)
		if o.TLSConfig != nil {
			o.TLSConfig.ServerName = "" // each node's own
		}
		set(&o.DialTimeout, dialTimeout)
		set(&o.ReadTimeout, readTimeout)
		set(&o.WriteTimeout, readTimeout)
		set(&o.PoolTimeout, poolTimeout)
		set(&o.MinIdleConns, ready/2)
		set(&o.ReadBufferSize, bufferSize)
		set(&o.WriteBufferSize, bufferSize)
		set(&o.PipelinePoolSize, -1) // all is asked by pipelines, so a pool for them would leave the other one idle
		set(&o.MinRetryBackoff, 2*time.Millisecond)
		set(&o.MaxRetryBackoff, 10*time.Millisecond)
		o.ReadTimeout += slow
		o.WriteTimeout += slow
		o.ContextTimeoutEnabled, o.DialerRetries, o.DisableIdentity = true, 1, true
		o.MaintNotificationsConfig = maint()
		o.ReadOnly, o.RouteByLatency, o.RouteRandomly = false, false, false // replicas lag behind
		return redis.NewClusterClient(o), nil
	case "sentinel":
		master := strings.Trim(t.url.Path, "/")
		if master == "" || strings.Contains(master, "/") {
			return nil, errors.New("the store's address names no master: redis+sentinel://host:26379,host:26379/MASTER?db=0")
		}
		o, err := redis.ParseFailoverURL(t.forSentinel(master).String())
		if err != nil {
			return nil, wrong(err)
		}
		secure(o.TLSConfig)
		if o.TLSConfig != nil {
			o.TLSConfig.ServerName = ""
		}
		set(&o.DialTimeout, dialTimeout)
		set(&o.ReadTimeout, readTimeout)
		set(&o.WriteTimeout, readTimeout)
		set(&o.PoolTimeout, poolTimeout)
		set(&o.MinIdleConns, ready)
		set(&o.ReadBufferSize, bufferSize)
		set(&o.WriteBufferSize, bufferSize)
		set(&o.PipelinePoolSize, -1) // all is asked by pipelines, so a pool for them would leave the other one idle
		set(&o.MinRetryBackoff, 2*time.Millisecond)
		set(&o.MaxRetryBackoff, 10*time.Millisecond)
		o.ReadTimeout += slow
		o.WriteTimeout += slow
		if o.MaxRetries == 0 {
			o.MaxRetries = 1
		}
		o.ContextTimeoutEnabled, o.DialerRetries, o.DisableIdentity = true, 1, true
		o.ReplicaOnly, o.RouteByLatency, o.RouteRandomly = false, false, false
		return redis.NewFailoverClient(o), nil
	}
	o, err := redis.ParseURL(t.url.String())
	if err != nil {
		return nil, wrong(err)
	}
	secure(o.TLSConfig)
	set(&o.DialTimeout, dialTimeout)
	set(&o.ReadTimeout, readTimeout)
	set(&o.WriteTimeout, readTimeout)
	set(&o.PoolTimeout, poolTimeout)
	set(&o.MinIdleConns, ready)
	set(&o.ReadBufferSize, bufferSize)
	set(&o.WriteBufferSize, bufferSize)
	set(&o.PipelinePoolSize, -1) // all is asked by pipelines, so a pool for them would leave the other one idle
	set(&o.MinRetryBackoff, 2*time.Millisecond)
	set(&o.MaxRetryBackoff, 10*time.Millisecond)
	o.ReadTimeout += slow
	o.WriteTimeout += slow
	if o.MaxRetries == 0 {
		o.MaxRetries = 1
	}
	o.ContextTimeoutEnabled, o.DialerRetries, o.DisableIdentity = true, 1, true
	o.MaintNotificationsConfig = maint()
	return redis.NewClient(o), nil
}

// set gives an option a value, unless the URL's parameters have.
func set[T int | time.Duration](option *T, v T) {
	if *option == 0 {
		*option = v
	}
}

// withHosts returns the url in the form that go-redis reads: further hosts as parameters.
func (t target) withHosts() *neturl.URL {
	u := t.url
	q := u.Query()
	for _, host := range t.hosts[1:] {
		q.Add("addr", host)
	}
	u.RawQuery = q.Encode()
	return &u
}

// forSentinel does the same for Sentinels, whose own user and password are parameters.
func (t target) forSentinel(master string) *neturl.URL {
	u := t.withHosts()
	q := u.Query()
	if pass, ok := u.User.Password(); ok {
		q.Set("username", u.User.Username())
		q.Set("password", pass)
	}
	u.User = nil
	if pass := q.Get("sentinel_password"); pass != "" {
		u.User = neturl.UserPassword(q.Get("sentinel_username"), pass)
	}
	q.Del("sentinel_username")
	q.Del("sentinel_password")
	q.Set("master_name", master)
	u.Path, u.RawQuery = "", q.Encode()
	return u
}
