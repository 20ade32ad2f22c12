package web

import (
	"crypto/sha256"
	"encoding/base64"
	"html/template"
)

// page is what the template shows.
type page struct {
	T       *text
	Company string
	Masked  string
	List    string
	Holds   holds
	Said    string  // what the last POST did, "" on GET
	Undo    *choice // takes it back, nil where nothing changed
}

// message is a page that only says something.
type message struct {
	T           *text
	Title, Body string
}

// style is the whole look. The policy allows it by its hash, so no other style can come in.
const style = `:root{color-scheme:light dark;--bg:#f4f3ef;--card:#fff;--ink:#1c2430;--soft:#566070;--line:#c9ced6;--act:#1d5a88;--on:#fff;--good:#e6f2ea;--edge:#2f7a4d}
@media(prefers-color-scheme:dark){:root{--bg:#14181e;--card:#1d232c;--ink:#e9edf2;--soft:#a9b4c2;--line:#454f5d;--act:#8cc4ee;--on:#0d1822;--good:#1b3326;--edge:#6fc28f}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:1rem/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:33rem;margin:0 auto;padding:1rem}
h1{font-size:1.35rem;line-height:1.2;margin:.25rem 0 .75rem}
h2{font-size:1.05rem;margin:0 0 .5rem}
section,.note{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem;margin:0 0 .75rem}
dl{display:grid;grid-template-columns:auto 1fr;gap:.1rem .8rem;margin:0 0 .5rem}
dt{color:var(--soft)}
dd{margin:0;font-weight:600;overflow-wrap:anywhere}
ul{margin:0;padding-left:1.1rem}
p{margin:0 0 .5rem}
.soft{color:var(--soft);font-size:.88rem;margin:.5rem .2rem}
.note{background:var(--good);border-color:var(--edge);display:flex;gap:.75rem;align-items:center;justify-content:space-between}
.note p{margin:0;font-weight:600}
.two{display:grid;grid-template-columns:1fr 1fr;gap:.6rem;margin:0 0 .75rem}
.two form{display:grid}
button{font:inherit;font-weight:600;line-height:1.2;min-height:3rem;padding:.5rem .9rem;border-radius:.5rem;border:2px solid var(--act);background:var(--act);color:var(--on);cursor:pointer}
button.plain{background:transparent;color:var(--act);min-height:2.75rem}
button:focus-visible,input:focus-visible{outline:3px solid var(--edge);outline-offset:2px}
fieldset{border:0;border-top:1px solid var(--line);margin:0;padding:.45rem 0 .5rem;min-width:0}
fieldset:first-of-type{border-top:0;padding-top:0}
legend{float:left;width:100%;padding:0 0 .1rem}
label{display:inline-flex;align-items:center;gap:.45rem;min-height:2rem;margin-right:1.5rem;clear:left}
fieldset label{clear:none}
legend+label{clear:left}
input{width:1.15rem;height:1.15rem;margin:0;accent-color:var(--act)}
`

var contentPolicy = func() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}()

const head = `<!DOCTYPE html>
<html lang="{{.T.Lang}}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>`

var pageTemplate = template.Must(template.New("page").Parse(head + `{{.T.Title}}</title>
<style>` + style + `</style>
</head>
<body>
<main>
<h1>{{.T.Title}}</h1>
{{with .Said}}<div class="note" role="status"><p>{{.}}</p>
{{with $.Undo}}<form method="post"><input type="hidden" name="do" value="save">
{{with .Mail}}<input type="hidden" name="mail" value="{{.}}">{{end}}
{{with .Open}}<input type="hidden" name="open" value="{{.}}">{{end}}
{{with .Click}}<input type="hidden" name="click" value="{{.}}">{{end}}
<button class="plain">{{$.T.Undo}}</button></form>{{end}}
</div>
{{end}}<section>
<dl>
{{with .Company}}<dt>{{$.T.From}}</dt><dd>{{.}}</dd>{{end}}
<dt>{{.T.Address}}</dt><dd>{{.Masked}}</dd>
<dt>{{.T.List}}</dt><dd>{{.List}}</dd>
</dl>
<ul>
<li>{{if .Holds.Everywhere}}{{.T.MailOffEverywhere}}{{else if eq .Holds.Mail "unsubscribed"}}{{.T.MailOff}}{{else}}{{.T.MailOn}}{{end}}</li>
<li>{{if eq .Holds.Open "granted"}}{{.T.OpenOn}}{{else if eq .Holds.Open "denied"}}{{.T.OpenOff}}{{else}}{{.T.OpenUnset}}{{end}}</li>
<li>{{if eq .Holds.Click "granted"}}{{.T.ClickOn}}{{else if eq .Holds.Click "denied"}}{{.T.ClickOff}}{{else}}{{.T.ClickUnset}}{{end}}</li>
</ul>
</section>
<div class="two">
{{if eq .Holds.Mail "subscribed"}}<form method="post"><button name="do" value="unsubscribe">{{.T.Unsubscribe}}</button></form>
<form method="post"><button name="do" value="stop-tracking">{{.T.StopTracking}}</button></form>
{{else if not .Holds.Everywhere}}<form method="post"><button name="do" value="resubscribe">{{.T.Resubscribe}}</button></form>
{{end}}</div>
<section>
<h2>{{.T.Preferences}}</h2>
<form method="post">
{{if not .Holds.Everywhere}}<fieldset><legend>{{.T.AskMail}}</legend>
<label><input type="radio" name="mail" value="subscribed"{{if eq .Holds.Mail "subscribed"}} checked{{end}}>{{.T.Yes}}</label>
<label><input type="radio" name="mail" value="unsubscribed"{{if eq .Holds.Mail "unsubscribed"}} checked{{end}}>{{.T.No}}</label></fieldset>{{end}}
<fieldset><legend>{{.T.AskOpen}}</legend>
<label><input type="radio" name="open" value="granted"{{if eq .Holds.Open "granted"}} checked{{end}}>{{.T.Yes}}</label>
<label><input type="radio" name="open" value="denied"{{if eq .Holds.Open "denied"}} checked{{end}}>{{.T.No}}</label></fieldset>
<fieldset><legend>{{.T.AskClick}}</legend>
<label><input type="radio" name="click" value="granted"{{if eq .Holds.Click "granted"}} checked{{end}}>{{.T.Yes}}</label>
<label><input type="radio" name="click" value="denied"{{if eq .Holds.Click "denied"}} checked{{end}}>{{.T.No}}</label></fieldset>
<button class="plain" name="do" value="save">{{.T.Save}}</button>
</form>
</section>
<p class="soft">{{.T.Forwarded}}</p>
</main>
</body>
</html>
`))

var messageTemplate = template.Must(template.New("message").Parse(head + `{{.Title}}</title>
<style>` + style + `</style>
</head>
<body>
<main>
<h1>{{.Title}}</h1>
<section><p>{{.Body}}</p></section>
</main>
</body>
</html>
`))
