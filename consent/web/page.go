package web

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"strings"
	texttemplate "text/template"
)

// page is what the page shows.
type page struct {
	Company, Masked, List string
	Holds                 holds
	Lines                 []line // what holds now
	Said                  string // what the last POST did, "" on GET
	Undo                  string // takes it back, "" where nothing changed
	Action                string // where its forms go, "" = to its own address

	CanStop bool // tracking can be stopped, since it is not denied
	notice
}

// line is what holds for one purpose.
type line struct {
	Text    string
	Pending bool // another state waits to be confirmed
}

// notice is what a person is told before they agree.
type notice struct {
	Agree    []string // paragraphs
	Version  string
	Recorded string // the name under which a consent to it is recorded
	Confirm  bool   // a consent has to be confirmed from a mail
}

// confirmation is the page that a mail leads to.
type confirmation struct {
	Company, Masked, List string
	Grants                []string
	notice
}

// message is a page that only says something.
type message struct{ Title, Body string }

// look is whose page it is: the templates with company, colour and logo, and the policy for them.
type look struct {
	in     map[*text]templates
	policy string
}

// templates are those in one language.
type templates struct{ page, confirmation, message *template.Template }

// newLook makes the templates in two steps, so that a page is made in half the time: what stands
// between [[ and ]] is the same in every page of a language and put in once.
func newLook(company string, colour Colour, logo Logo) *look {
	p := colour.palette()
	css := fmt.Sprintf(":root{--brand:%s;--on:%s;--act:%s}@media(prefers-color-scheme:dark){:root{--act:%s}}", p.brand, p.on, p.light, p.dark) + style
	sum := sha256.Sum256([]byte(css))
	l := &look{in: map[*text]templates{}, policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"}
	banner := ""
	if logo != "" {
		banner = `<header><img src="` + string(logo) + `" alt="` + template.HTMLEscapeString(company) + `" height="36"></header>` + "\n"
		l.policy += "; img-src data:"
	}
	for i := range texts {
		parse := func(title, main string) *template.Template {
			first := texttemplate.Must(texttemplate.New("page").Delims("[[", "]]").Parse(
				head + title + "</title>\n<style>" + css + "</style>\n</head>\n<body>\n{{banner}}<main>\n" + main + "</main>\n</body>\n</html>\n"))
			var b strings.Builder
			if err := first.Execute(&b, &texts[i]); err != nil {
				panic("web: " + err.Error()) // only for a template that names no text
			}
			return template.Must(template.New("page").Funcs(template.FuncMap{"banner": func() template.HTML { return template.HTML(banner) }}).Parse(b.String()))
		}
		l.in[&texts[i]] = templates{
			page:         parse("{{with .Said}}{{.}} – {{end}}[[html .Title]]", pageMain),
			confirmation: parse("[[html .ConfirmTitle]]", confirmationMain),
			message:      parse("{{.Title}}", messageMain),
		}
	}
	return l
}

// style is all but the operator's colour: --brand with --on upon it, and --act on the surfaces. The policy allows it by its
// hash, so no other style can come in. Nothing moves, and colours that the reader forces are left to them.
const style = `:root{color-scheme:light dark;--bg:#f4f3ef;--card:#fff;--ink:#1c2430;--soft:#525c6b;--line:#858d99;--good:#e6f2ea}
@media(prefers-color-scheme:dark){:root{--bg:#14181e;--card:#1d232c;--ink:#e9edf2;--soft:#adb8c6;--line:#6f7b8b;--good:#1b3326}}
*{box-sizing:border-box}
body{margin:0;border-top:.3rem solid var(--brand);background:var(--bg);color:var(--ink);font:1rem/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:break-word}
header,main{max-width:36rem;margin:0 auto;padding:.5rem 1rem}
header{padding-bottom:0}
img{display:block;height:2.25rem;max-width:100%;object-fit:contain;background:#fff;border-radius:.25rem;padding:.15rem}
h1{font-size:1.4rem;line-height:1.2;margin:.25rem 0 .7rem}
h2{font-size:1.1rem;line-height:1.25;margin:0 0 .4rem}
h3{font-size:1rem;border-top:1px solid var(--line);padding-top:.6rem;margin:.2rem 0 .2rem}
section,.note,.who{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem;margin:0 0 .8rem}
.who{display:grid;grid-template-columns:auto 1fr;gap:.1rem .8rem;padding:.55rem 1rem}
dt{color:var(--soft)}
dd{margin:0;font-weight:600;overflow-wrap:anywhere;min-width:0}
ul{margin:0 0 .5rem;padding-left:1.2rem}
p{margin:0 0 .5rem}
h1,h2,h3,legend,button{text-wrap:balance}
section>:last-child{margin-bottom:0}
.soft{color:var(--soft);font-size:.9rem}
.still{margin:0 .1rem .8rem}
.note{background:var(--good);border:2px solid var(--act);display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:center}
.note p{margin:0;font-weight:600;flex:1 1 14rem}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,15rem),1fr));gap:.6rem 1rem;margin:0 0 .5rem}
.two form{display:flex;flex-direction:column}
.two button{min-height:3.75rem}
.two p{margin:.25rem .1rem 0}
button{font:inherit;font-weight:600;line-height:1.2;min-height:3rem;padding:.5rem .9rem;border-radius:.5rem;border:2px solid var(--act);background:var(--brand);color:var(--on);cursor:pointer}
button:hover{text-decoration:underline}
button.plain{background:transparent;color:var(--act)}
button:focus-visible,input:focus-visible{outline:3px solid var(--ink);outline-offset:3px}
fieldset{border:0;margin:0 0 .4rem;padding:0;min-width:0}
legend{padding:0;font-weight:600}
label{display:inline-flex;align-items:center;gap:.5rem;min-height:2.75rem;min-width:5rem;padding-right:1rem;cursor:pointer}
input{width:1.25rem;height:1.25rem;margin:0;accent-color:var(--act);flex:none}
`

const head = `<!DOCTYPE html>
<html lang="[[html .Lang]]">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>`

// form begins one; no browser fills it in again with what it held before a reload.
const form = `<form method="post" autocomplete="off"{{with $.Action}} action="{{.}}"{{end}}>`

const who = `<dl class="who">
{{with .Company}}<dt>[[html .From]]</dt><dd>{{.}}</dd>
{{end}}<dt>[[html .Address]]</dt><dd>{{.Masked}}</dd>
<dt>[[html .List]]</dt><dd>{{.List}}</dd>
</dl>
`

const pageMain = `<h1>[[html .Title]]</h1>
{{with .Said}}<div class="note"><p role="status">{{.}}</p>
{{with $.Undo}}` + form + `<input type="hidden" name="slip" value="{{.}}"><button class="plain" name="do" value="undo">[[html .Undo]]</button></form>
{{end}}</div>
{{end}}` + who + `<div class="two">
{{if eq .Holds.Mail "subscribed"}}` + form + `<button name="do" value="unsubscribe" aria-describedby="u">[[html .Unsubscribe]]</button><p class="soft" id="u">[[html .UnsubscribeMeans]]</p></form>
{{if .CanStop}}` + form + `<button name="do" value="stop-tracking" aria-describedby="s">[[html .StopTracking]]</button><p class="soft" id="s">[[html .StopTrackingMeans]]</p></form>
{{end}}{{else if not .Holds.Everywhere}}` + form + `<button class="plain" name="do" value="resubscribe">[[html .Resubscribe]]</button></form>
{{end}}</div>
<p class="soft still">[[html .StillComes]]</p>
<section>
<h2>[[html .HoldsTitle]]</h2>
<ul>
{{range .Lines}}<li>{{.Text}}{{if .Pending}} [[html .Pending]]{{end}}</li>
{{end}}</ul>
</section>
<section>
<h2>[[html .Preferences]]</h2>
` + form + `<input type="hidden" name="shown" value="{{.Holds.Shown}}"><input type="hidden" name="notice" value="{{.Recorded}}">
{{if not .Holds.Everywhere}}<fieldset><legend>[[html .AskMail]]</legend>
<label><input type="radio" name="mail" value="subscribed"{{if .Holds.Checked "mail" "subscribed"}} checked{{end}}>[[html .Yes]]</label>
<label><input type="radio" name="mail" value="unsubscribed"{{if .Holds.Checked "mail" "unsubscribed"}} checked{{end}}>[[html .No]]</label></fieldset>
{{end}}<h3>[[html .AgreeTitle]]</h3>
` + agreement + `<fieldset><legend>[[html .AskOpen]]</legend>
<label><input type="radio" name="open" value="granted"{{if .Holds.Checked "open" "granted"}} checked{{end}}>[[html .Yes]]</label>
<label><input type="radio" name="open" value="denied"{{if .Holds.Checked "open" "denied"}} checked{{end}}>[[html .No]]</label></fieldset>
<fieldset><legend>[[html .AskClick]]</legend>
<label><input type="radio" name="click" value="granted"{{if .Holds.Checked "click" "granted"}} checked{{end}}>[[html .Yes]]</label>
<label><input type="radio" name="click" value="denied"{{if .Holds.Checked "click" "denied"}} checked{{end}}>[[html .No]]</label></fieldset>
{{if .Confirm}}<p>[[html .ConfirmHint]]</p>
{{end}}<button name="do" value="save">[[html .Save]]</button>
</form>
</section>
<section>
<h2>[[html .NotYouTitle]]</h2>
<p>[[html .NotYou]]</p>
</section>
`

// agreement is what stands under a heading of AgreeTitle.
const agreement = `{{range .Agree}}<p>{{.}}</p>
{{end}}<p class="soft">[[html .NoticeVersion]] {{.Version}}</p>
`

const confirmationMain = `<h1>[[html .ConfirmTitle]]</h1>
` + who + `<section>
<p>[[html .ConfirmLead]]</p>
<ul>
{{range .Grants}}<li><strong>{{.}}</strong></li>
{{end}}</ul>
{{if .Agree}}<h2>[[html .AgreeTitle]]</h2>
` + agreement + `{{end}}<form method="post"><button name="do" value="confirm">[[html .ConfirmButton]]</button></form>
</section>
<p>[[html .ConfirmIgnore]]</p>
`

const messageMain = `<h1>{{.Title}}</h1>
<section><p>{{.Body}}</p></section>
`
