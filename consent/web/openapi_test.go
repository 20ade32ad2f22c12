package web

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/go-cmp/cmp"
)

// contract is the OpenAPI file, read once.
var contract = sync.OnceValues(func() (*openapi3.T, error) {
	openapi3filter.RegisterBodyDecoder("application/x-ndjson", openapi3filter.FileBodyDecoder)
	doc, err := openapi3.NewLoader().LoadFromData(openAPIFile)
	if err == nil {
		err = doc.Validate(openapi3.NewLoader().Context)
	}
	return doc, err
})

// keepsContract holds an answer of the API against the OpenAPI file. desk.do calls it for every
// answer that a test of this package gets.
func keepsContract(t *testing.T, r *http.Request, w *httptest.ResponseRecorder) {
	t.Helper()
	doc, err := contract()
	if err != nil {
		t.Fatalf("openapi.json: %v", err)
	}
	item := doc.Paths.Value(r.Pattern)
	if item == nil || w.Code == http.StatusMethodNotAllowed {
		return // no call of the API
	}
	op := item.GetOperation(strings.Replace(r.Method, "HEAD", "GET", 1))
	if op == nil {
		t.Errorf("%s %s: openapi.json does not know it, and the answer is %d", r.Method, r.Pattern, w.Code)
		return
	}
	err = openapi3filter.ValidateResponse(t.Context(), (&openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: r,
			Route:   &routers.Route{Spec: doc, Path: r.Pattern, PathItem: item, Method: r.Method, Operation: op},
		},
		Status: w.Code, Header: w.Header(),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: w.Body.Len() == 0},
	}).SetBodyBytes(w.Body.Bytes()))
	if err != nil {
		t.Errorf("%s %s answers %d, which is not what openapi.json says: %v\n%s", r.Method, r.Pattern, w.Code, err, w.Body)
	}
	if w.Code == http.StatusOK && w.Header().Get("Content-Type") == "application/x-ndjson" {
		for line := range bytes.Lines(w.Body.Bytes()) {
			name := "Line"
			if r.Method == "POST" {
				name = "Note"
				if bytes.HasPrefix(line, []byte(`{"summary"`)) {
					name = "ImportEnd"
				}
			}
			keepsSchema(t, doc, name, line)
		}
	}
}

func keepsSchema(t *testing.T, doc *openapi3.T, name string, text []byte) {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Errorf("%s: %v", text, err)
		return
	}
	if err := doc.Components.Schemas[name].Value.VisitJSON(v, doc.GetSchemaValidationOptions()...); err != nil {
		t.Errorf("%s is no %s: %v", text, name, err)
	}
}

// Every call that there is stands in the file, with every status that all calls may answer, and no
// other does.
func TestTheFileKnowsEveryCall(t *testing.T) {
	doc, err := contract()
	if err != nil {
		t.Fatal(err)
	}
	var written, served []string
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			written = append(written, method+" "+path)
			for _, status := range []string{"401", "403", "500", "503"} {
				if op.Responses.Value(status) == nil {
					t.Errorf("%s %s: no answer %s", method, path, status)
				}
			}
		}
	}
	for path, calls := range (&admin{}).paths() {
		for method := range maps.Keys(calls) {
			served = append(served, method+" "+path)
		}
	}
	slices.Sort(written)
	slices.Sort(served)
	if diff := cmp.Diff(written, served); diff != "" {
		t.Error(diff)
	}
}

func TestTheFileIsServed(t *testing.T) {
	d := newDesk(t)
	w := d.do("GET", "/v1/openapi.json", "", "")
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || !json.Valid(w.Body.Bytes()) {
		t.Errorf("status %d, %v", w.Code, w.Header())
	}
}
