package demo

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"github.com/consentgate/consentgate/consent"
)

//go:embed page.html style.css
var pageFiles embed.FS

var pages = template.Must(template.ParseFS(pageFiles, "page.html"))

const (
	// pagePolicy lets the page load its own style and the copies, and nothing from elsewhere.
	pagePolicy = "default-src 'none'; style-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	// copyPolicy is for a copy as a reader would see it: no script, no form, no way out of its
	// frame, and no picture that is not in the page itself.
	copyPolicy = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'self'"
)

// routes returns everything below the page's address:
//
//	GET /                     the five people of the last round
//	GET /person/NAME          one copy beside the original, and what changed
//	GET /person/NAME/copy     the copy as a reader would see it, for a frame
//	GET /person/NAME/source   its source, compared with the original line by line
//	GET /person/NAME/raw      its source as it reached the smarthost
//	GET /original/copy, /original/raw
//	POST /again               the next round
//	/u/TOKEN                  the unsubscribe page
func (s *show) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.overview)
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, pageFiles, "style.css")
	})
	mux.HandleFunc("GET /person/{name}", s.person)
	mux.HandleFunc("GET /person/{name}/copy", s.copy)
	mux.HandleFunc("GET /person/{name}/source", s.source)
	mux.HandleFunc("GET /person/{name}/raw", func(w http.ResponseWriter, r *http.Request) {
		if o := s.find(r); o != nil && o.raw != nil {
			writeRaw(w, o.raw)
			return
		}
		http.NotFound(w, r)
	})
	mux.HandleFunc("GET /original/copy", func(w http.ResponseWriter, r *http.Request) {
		writeCopy(w, s.house.letter.view, s.house.base)
	})
	mux.HandleFunc("GET /original/raw", func(w http.ResponseWriter, r *http.Request) {
		writeRaw(w, s.house.letter.raw)
	})
	mux.Handle("POST /again", http.NewCrossOriginProtection().Handler(http.HandlerFunc(s.again)))
	mux.HandleFunc("/u/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			s.choosing.RLock()
			defer s.choosing.RUnlock()
		}
		s.house.public.ServeHTTP(w, r)
	})
	return mux
}

// base is what every page shows.
type base struct {
	Round   int
	At      string
	Subject string
	Title   string
	People  []card
	Chosen  string // the person whose page it is, "" on the first one
	Wrong   []string
	Log     string
	Stale   []string // who has chosen anew since the round
}

// card is one person on the page.
type card struct {
	Name, Address, Label string
	Chips                []chip
	Sent                 bool
	Answer, Code         string // of the gateway
	Relayed              string // of the smarthost
	Link                 string // to the unsubscribe page
	Wrong                bool
}

// chip is one state that holds.
type chip struct{ Word, Look string }

func (s *show) base(r *http.Request, title string) (base, error) {
	last := s.current()
	b := base{Round: last.number, At: last.at.Format(time.TimeOnly), Subject: last.letter.subject(), Title: title, Wrong: last.deviations(), Log: last.log}
	who := make([]consent.Address, len(people))
	for i, p := range people {
		who[i] = p.who
	}
	now, err := s.house.store.Lookup(r.Context(), scope, who)
	if err != nil {
		return base{}, err
	}
	for i, o := range last.copies {
		if now[i].Err == nil && now[i].Scope.Version != o.record.Version {
			b.Stale = append(b.Stale, o.who.String())
		}
		c := card{Name: o.name, Address: o.who.String(), Label: o.label, Sent: o.raw != nil, Answer: o.answer, Code: code(o.answer),
			Relayed: o.relayed, Link: o.link, Chips: chips(o.record), Wrong: len(o.report.deviations) > 0}
		b.People = append(b.People, c)
	}
	return b, nil
}

func chips(r consent.Record) []chip {
	look := func(s consent.State) string {
		switch s {
		case consent.Granted, consent.Subscribed:
			return "yes"
		case consent.Unsubscribed:
			return "out"
		}
		return "no"
	}
	return []chip{
		{"mail: " + state(r.Mail.State, consent.Subscribed), look(consent.State(state(r.Mail.State, consent.Subscribed)))},
		{"opens: " + state(r.Open.State, consent.Unset), look(r.Open.State)},
		{"clicks: " + state(r.Click.State, consent.Unset), look(r.Click.State)},
	}
}

// find returns the person of the path, nil if there is none.
func (s *show) find(r *http.Request) *outcome {
	last := s.current()
	for i := range last.copies {
		if last.copies[i].name == r.PathValue("name") {
			return &last.copies[i]
		}
	}
	return nil
}

func (s *show) overview(w http.ResponseWriter, r *http.Request) {
	b, err := s.base(r, "consentgate demo")
	if err != nil {
		fail(w, err)
		return
	}
	write(w, "overview", struct {
		base
		Rows []row
	}{b, s.current().rows()})
}

func (s *show) person(w http.ResponseWriter, r *http.Request) {
	o := s.find(r)
	if o == nil {
		http.NotFound(w, r)
		return
	}
	b, err := s.base(r, o.who.String()+" · consentgate demo")
	if err != nil {
		fail(w, err)
		return
	}
	b.Chosen = o.name
	data := struct {
		base
		Me            card
		Changed, Kept []grouped
		Wrongs        []string
	}{base: b, Wrongs: o.report.deviations}
	for _, c := range b.People {
		if c.Name == o.name {
			data.Me = c
		}
	}
	for _, g := range group(o.report.changes) {
		if g.Did == "kept" {
			data.Kept = append(data.Kept, g)
		} else {
			data.Changed = append(data.Changed, g)
		}
	}
	write(w, "person", data)
}

// grouped is a change with all the places where it was made.
type grouped struct {
	Did, About, Before, After string
	Where                     []string // "a href, 2 times"
}

// group joins what changed alike.
func group(changes []change) []grouped {
	type key struct{ did, about, before, after string }
	var order []key
	where := map[key][]string{}
	times := map[key]map[string]int{}
	for _, c := range changes {
		k := key{c.did, c.about, c.before, c.after}
		if times[k] == nil {
			times[k] = map[string]int{}
			order = append(order, k)
		}
		if times[k][c.where]++; times[k][c.where] == 1 {
			where[k] = append(where[k], c.where)
		}
	}
	var all []grouped
	for _, k := range order {
		g := grouped{Did: k.did, About: k.about, Before: k.before, After: k.after}
		for _, place := range where[k] {
			if n := times[k][place]; n > 1 {
				place += fmt.Sprintf(" ×%d", n)
			}
			g.Where = append(g.Where, place)
		}
		all = append(all, g)
	}
	return all
}

func (s *show) copy(w http.ResponseWriter, r *http.Request) {
	o := s.find(r)
	if o == nil || o.raw == nil {
		http.NotFound(w, r)
		return
	}
	v, err := look(o.raw)
	if err != nil {
		fail(w, err)
		return
	}
	writeCopy(w, v, s.house.base)
}

func writeCopy(w http.ResponseWriter, v *view, base string) {
	header(w, copyPolicy, "text/html; charset=utf-8")
	w.Write([]byte(display(v, base)))
}

func (s *show) source(w http.ResponseWriter, r *http.Request) {
	o := s.find(r)
	if o == nil || o.raw == nil {
		http.NotFound(w, r)
		return
	}
	b, err := s.base(r, "Source for "+o.who.String()+" · consentgate demo")
	if err != nil {
		fail(w, err)
		return
	}
	b.Chosen = o.name
	write(w, "source", struct {
		base
		Lines []line
	}{b, compare(s.house.letter.raw, o.raw)})
}

func (s *show) again(w http.ResponseWriter, r *http.Request) {
	if _, err := s.next(r.Context()); err != nil {
		fail(w, err)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func writeRaw(w http.ResponseWriter, raw []byte) {
	header(w, "default-src 'none'; frame-ancestors 'none'", "text/plain; charset=utf-8")
	w.Write(raw)
}

func header(w http.ResponseWriter, policy, kind string) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Content-Type", kind)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer") // pages link to tokens
	h.Set("Cache-Control", "no-store")
}

func write(w http.ResponseWriter, name string, data any) {
	var out bytes.Buffer
	if err := pages.ExecuteTemplate(&out, name, data); err != nil {
		fail(w, err)
		return
	}
	header(w, pagePolicy, "text/html; charset=utf-8")
	w.Write(out.Bytes())
}

// fail tells the person at the demo, who is its operator, what went wrong.
func fail(w http.ResponseWriter, err error) {
	http.Error(w, "The demo failed: "+err.Error(), http.StatusInternalServerError)
}
