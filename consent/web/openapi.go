package web

import (
	_ "embed"
	"net/http"
)

// openAPIFile describes the API; a test holds it against the answers.
//
//go:embed openapi.json
var openAPIFile []byte

func openAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	w.Write(openAPIFile)
	return nil
}
