package guard

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
)

// page is what the template shows.
type page struct {
	T     *text
	Title string
	Body  []string
	GoOn  string // the sender's counter, "" for no link
}

// hostOf is the host of an address, as the page names it.
func hostOf(addr string) string {
	u, err := url.Parse(addr)
	if err != nil {
		return "…"
	}
	return u.Hostname()
}

// style is the whole look. The policy allows it by its hash, so no other style can come in.
const style = `:root{color-scheme:light dark;--bg:#f4f3ef;--card:#fff;--ink:#1c2430;--line:#c9ced6;--act:#1d5a88}
@media(prefers-color-scheme:dark){:root{--bg:#14181e;--card:#1d232c;--ink:#e9edf2;--line:#454f5d;--act:#8cc4ee}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:33rem;margin:0 auto;padding:1rem}
h1{font-size:1.35rem;line-height:1.2;margin:.25rem 0 .75rem}
section{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem}
p{margin:0 0 .7rem;overflow-wrap:anywhere}
a{display:inline-block;padding:.6rem 0;color:var(--act);font-weight:600}
a:focus-visible{outline:3px solid var(--act);outline-offset:2px}
`

var pagePolicy = func() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
}()

var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="{{.T.Lang}}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{{.Title}}</title>
<style>` + style + `</style>
</head>
<body>
<main>
<h1>{{.Title}}</h1>
<section>{{range .Body}}<p>{{.}}</p>
{{end}}{{with .GoOn}}<a href="{{.}}" rel="noreferrer nofollow">{{$.T.GoOn}}</a>
{{end}}</section>
</main>
</body>
</html>
`))

func (g *guard) say(w http.ResponseWriter, status int, p page) {
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		g.Log.Error("the page for a guarded link cannot be made", "err", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}
