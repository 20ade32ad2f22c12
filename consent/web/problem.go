package web

import (
	"encoding/json"
	"net/http"
)

// problem is an error answer of the API (RFC 9457), of the type about:blank, with two members of
// its own.
type problem struct {
	Type    string   `json:"type"`
	Title   string   `json:"title"`
	Status  int      `json:"status"`
	Detail  string   `json:"detail"`
	Field   string   `json:"field,omitempty"`   // what in the request is wrong
	Allowed []string `json:"allowed,omitempty"` // what would be right
}

func (p problem) Error() string { return p.Detail }

// write answers with p; its Status must be set.
func (p problem) write(w http.ResponseWriter) {
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	writeJSON(w, p.Status, "application/problem+json", p)
}

func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	w.Write(append(b, '\n'))
}
