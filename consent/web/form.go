package web

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// maxForm is the largest body of a POST that is read, in bytes: the real ones have under 1,000.
const maxForm = 8 << 10

var errForm = errors.New("the body is no form that this page sends")

// readForm returns the fields of a POST's body, urlencoded or multipart/form-data (RFC 7578), each
// at most once and none of them a file. The query of the URL plays no part. A body without a
// Content-Type is taken for urlencoded, since an opt-out shall not fail on that.
func readForm(w http.ResponseWriter, r *http.Request) (map[string]string, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	kind := "application/x-www-form-urlencoded"
	if ct := r.Header.Get("Content-Type"); ct != "" {
		var err error
		if kind, _, err = mime.ParseMediaType(ct); err != nil {
			return nil, errForm
		}
	}
	var values url.Values
	switch kind {
	case "application/x-www-form-urlencoded":
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if values, err = url.ParseQuery(strings.TrimRight(string(body), "\r\n")); err != nil {
			return nil, errForm
		}
	case "multipart/form-data":
		if err := r.ParseMultipartForm(maxForm); err != nil {
			return nil, err
		}
		defer r.MultipartForm.RemoveAll()
		if len(r.MultipartForm.File) > 0 {
			return nil, errForm
		}
		values = r.MultipartForm.Value
	default:
		return nil, errForm
	}
	fields := make(map[string]string, len(values))
	for name, v := range values {
		if len(v) != 1 {
			return nil, errForm
		}
		fields[name] = v[0]
	}
	return fields, nil
}

// isOneClick reports whether fields are exactly List-Unsubscribe=One-Click (RFC 8058 §3.1).
func isOneClick(fields map[string]string) bool {
	return len(fields) == 1 && fields["List-Unsubscribe"] == "One-Click"
}
