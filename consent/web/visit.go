package web

import "net/http"

// visit is an answer of the public handler, of which is noted what it is to and its status.
type visit struct {
	http.ResponseWriter
	what   string
	status int
}

// visits notes what w is the answer to, where anybody counts.
func visits(w http.ResponseWriter, what string) {
	if v, ok := w.(*visit); ok {
		v.what = what
	}
}

func (v *visit) WriteHeader(status int) {
	v.status = status
	v.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (v *visit) Unwrap() http.ResponseWriter { return v.ResponseWriter }

// result says how a request went: "ok", "bad", "limited" or "down".
func (v *visit) result() string {
	switch {
	case v.status == http.StatusTooManyRequests:
		return "limited"
	case v.status >= 500:
		return "down"
	case v.status >= 400:
		return "bad"
	}
	return "ok"
}
