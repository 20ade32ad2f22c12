package web

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
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
	kind, params := "application/x-www-form-urlencoded", map[string]string(nil)
	if ct := r.Header.Get("Content-Type"); ct != "" {
		var err error
		if kind, params, err = mime.ParseMediaType(ct); err != nil {
			return nil, errForm
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		return nil, err
	}
	var values url.Values
	switch kind {
	case "application/x-www-form-urlencoded":
		if values, err = url.ParseQuery(strings.TrimRight(string(body), "\r\n")); err != nil {
			return nil, errForm
		}
	case "multipart/form-data":
		form, err := multipart.NewReader(bytes.NewReader(body), params["boundary"]).ReadForm(maxForm)
		if err != nil {
			return nil, errForm
		}
		defer form.RemoveAll()
		if len(form.File) > 0 {
			return nil, errForm
		}
		values = form.Value
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
