package consent

import "context"

// What one request brings about is logged under one ID, wherever that happens: in the store, in the calls that follow.
type requestKey struct{}

// WithRequest returns a context for what is done in a request, or for a message, of that ID.
func WithRequest(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

// Request returns the ID, "" where there is none.
func Request(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}
