package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/consentgate/consentgate/consent"
)

// scanCount is about how many keys Redis looks at for one page.
const scanCount = 400

// node is one server that holds people.
type node struct {
	id     string // of this run of the server: another run counts its cursors otherwise
	client redis.Cmdable
}

// errMoved says that a scan cannot go on without leaving people out.
var errMoved = errors.New("the Redis servers were restarted or people moved between them, so a scan that was begun before cannot be finished: begin anew")

// scan calls f with each page of hash keys and the cursors at and behind it: "STATE RUN NUMBER", what
// nodes says, the run of a server and where it is with it, or "end". A page may be empty. It ends with errMoved where
// other servers hold the people than when it began, which would leave some out.
func (s *Store) scan(ctx context.Context, from consent.Cursor, f func(page []string, here, next consent.Cursor) error) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	if from == "end" {
		return nil
	}
	nodes, state, err := s.nodes(ctx)
	if err != nil {
		return err
	}
	i, cursor := 0, uint64(0)
	if from != "" {
		var id, was string
		if n, err := fmt.Sscanf(string(from), "%s %s %d", &was, &id, &cursor); n != 3 || err != nil {
			return errors.New("the cursor is none of a Redis store")
		}
		i = slices.IndexFunc(nodes, func(n node) bool { return n.id == id })
		if i < 0 || was != state {
			return errMoved
		}
	}
	at := func(i int, cursor uint64) consent.Cursor {
		if i == len(nodes) {
			return "end"
		}
		return consent.Cursor(fmt.Sprintf("%s %s %d", state, nodes[i].id, cursor))
	}
	for ; i < len(nodes); i, cursor = i+1, 0 {
		for {
			page, next, err := nodes[i].client.Scan(ctx, cursor, "consent:{*}", scanCount).Result()
			if err != nil {
				return wrap(err)
			}
			behind := at(i, next)
			if next == 0 {
				behind = at(i+1, 0)
			}
			if err := f(page, at(i, cursor), behind); err != nil {
				return err
			}
			cursor = next
			if cursor == 0 {
				break
			}
		}
	}
	if _, now, err := s.nodes(ctx); err != nil {
		return err
	} else if now != state {
		return errMoved
	}
	return nil
}

// nodes returns the servers that hold people, in a fixed order, and what changes when other
// servers do or people move between them.
func (s *Store) nodes(ctx context.Context) ([]node, string, error) {
	c, ok := s.rdb.(*redis.ClusterClient)
	if !ok {
		id, err := runID(ctx, s.rdb)
		return []node{{id, s.rdb}}, id, err
	}
	var mu sync.Mutex
	var all []node
	err := c.ForEachMaster(ctx, func(ctx context.Context, client *redis.Client) error {
		id, err := runID(ctx, client)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, node{id, client})
		return err
	})
	if err != nil {
		return nil, "", wrap(err)
	}
	slices.SortFunc(all, func(a, b node) int { return strings.Compare(a.id, b.id) })
	state, err := c.ClusterInfo(ctx).Result()
	if err != nil {
		return nil, "", wrap(err)
	}
	// Every slot that moves and every failover raises it.
	return all, "e" + infoValue(state, "cluster_current_epoch"), nil
}

// runID names this run of a server; one that does not tell is taken as one that runs on.
func runID(ctx context.Context, client redis.Cmdable) (string, error) {
	info, err := client.Info(ctx, "server").Result()
	if err != nil && !isReply(err) {
		return "", wrap(err)
	}
	if id := infoValue(info, "run_id"); id != "" {
		return id, nil
	}
	return "-", nil
}

// infoValue returns a value of what INFO answers, "" where it is not there.
func infoValue(info, name string) string {
	for line := range strings.SplitSeq(info, "\n") {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// isReply reports whether err is what a server said, and not the lack of an answer.
func isReply(err error) bool {
	var e redis.Error
	return errors.As(err, &e)
}
