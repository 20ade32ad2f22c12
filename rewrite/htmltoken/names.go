package htmltoken

import "strings"

// traits is what this package has to know of an element by its name.
type traits uint32

const (
	unlisted   traits = 1 << iota // void elements, and html, head, body, whose end tags close nothing here
	special                       // §13.2.4.2, the special elements of HTML
	scope                         // ends a scope (§13.2.4.2)
	tableScope                    // ends a table scope
	listScope                     // ends a list item scope, besides scope
	tablePart                     // its end tag looks in table scope
	needsTable                    // its start tag is ignored outside of a table
	table                         // table
	formatting                    // its end tag runs the adoption agency
	heading                       // its end tag closes any of them
	alone                         // its end tag leaves open what is inside
	closesP                       // its start tag closes an open p
	closesSame                    // its start tag closes an open element of the same name
	breakout                      // leaves foreign content (§13.2.6.5)
	font                          // so too with certain attributes
	svgRoot                       // begins svg
	mathRoot                      // begins math
	svgPoint                      // in svg an HTML integration point
	mathText                      // in math a text integration point
	mathGlyph                     // mglyph, malignmark
	annotation                    // annotation-xml
)

// element names, by trait. All are in lower case, as names are compared (§13.2.5.8).
var namesOf = map[traits]string{
	unlisted: `area base basefont bgsound body br col embed frame head hr html image img input
		keygen link meta param source track wbr`,
	special: `address applet area article aside base basefont bgsound blockquote body br button caption center col
		colgroup dd details dir div dl dt embed fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6
		head header hgroup hr html iframe img input keygen li link listing main marquee menu meta nav noembed noframes
		noscript object ol p param plaintext pre script search section select source style summary table tbody td
		template textarea tfoot th thead title tr track ul wbr xmp`,
	scope:      `applet caption html table td th marquee object template`,
	tableScope: `html table template`,
	listScope:  `ol ul`,
	tablePart:  `caption table tbody td tfoot th thead tr`,
	needsTable: `caption col colgroup tbody td tfoot th thead tr`,
	table:      `table`,
	formatting: `a b big code em font i nobr s small strike strong tt u`,
	heading:    `h1 h2 h3 h4 h5 h6`,
	alone:      `form`,
	closesP: `address article aside blockquote center dd details dialog dir div dl dt fieldset figcaption figure footer
		form h1 h2 h3 h4 h5 h6 header hgroup hr li listing main menu nav ol p plaintext pre search section summary
		ul xmp`,
	closesSame: `dd dt h1 h2 h3 h4 h5 h6 li nobr optgroup option tbody td tfoot th thead tr`,
	breakout: `b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing
		menu meta nobr ol p pre ruby s small span strong strike sub sup table tt u ul var`,
	font:       `font`,
	svgRoot:    `svg`,
	mathRoot:   `math`,
	svgPoint:   `foreignobject desc title`,
	mathText:   `mi mo mn ms mtext`,
	mathGlyph:  `mglyph malignmark`,
	annotation: `annotation-xml`,
}

// rawElements are those whose content is no markup: RAWTEXT, RCDATA, script data, PLAINTEXT (§13.2.6.4.4,
// §13.2.6.4.7). noscript is not one of them without scripts.
const rawElements = `style xmp iframe noembed noframes title textarea script plaintext`

type knownName struct {
	name   string
	raw    string // the name again where the content is raw text
	traits traits
}

var names = func() map[uint64]knownName {
	m := make(map[uint64]knownName)
	add := func(list string, set func(*knownName)) {
		for _, name := range strings.Fields(list) {
			key := nameKey([]byte(name))
			e := m[key]
			e.name = name
			set(&e)
			m[key] = e
		}
	}
	for tr, list := range namesOf {
		add(list, func(e *knownName) { e.traits |= tr })
	}
	add(rawElements, func(e *knownName) { e.raw = e.name })
	return m
}()

var (
	keyA  = nameKey([]byte("a"))
	keyP  = nameKey([]byte("p"))
	keyLi = nameKey([]byte("li"))
	keyBr = nameKey([]byte("br"))
)

// lookup returns what is known of the element, whose key is nameKey(name).
func lookup(name []byte, key uint64) knownName {
	e := names[key]
	if len(name) > 8 && !EqualFold(name, e.name) {
		return knownName{} // a long name's key is not unique
	}
	return e
}

// nameKey stands for a name without regard to letter case. Up to 8 bytes it is the name itself, so that two
// names have never one key; a longer one is hashed (FNV-1a), with the top bit set, which no short one has.
func nameKey(name []byte) uint64 {
	if len(name) <= 8 {
		var k uint64
		for _, c := range name {
			k = k<<8 | uint64(lowerCase(c))
		}
		return k
	}
	h := uint64(14695981039346656037)
	for _, c := range name {
		h = (h ^ uint64(lowerCase(c))) * 1099511628211
	}
	return h | 1<<63
}
