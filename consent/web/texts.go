package web

import (
	"golang.org/x/text/language"
)

// text is the page in one language. Another language is another row of texts.
type text struct {
	tag    language.Tag
	Lang   string // of <html lang>
	Notice string // recorded with a consent given on the page: change it when the wording of a question changes

	Title, From, Address, List, AllLists, Forwarded string

	// What holds now.
	MailOn, MailOff, MailOffEverywhere string
	OpenOn, OpenOff, OpenUnset         string
	ClickOn, ClickOff, ClickUnset      string

	// What can be done.
	Unsubscribe, StopTracking, Resubscribe, Undo, Save   string
	Preferences, AskMail, AskOpen, AskClick, Yes, No     string
	Saved, Unchanged, Unsubscribed, TrackingOff, Renewed string

	// What went wrong.
	BadLinkTitle, BadLink, DownTitle, Down, BadRequestTitle, BadRequest string
}

// texts holds every language of the page; the first is the one for everybody else.
var texts = []text{{
	tag: language.English, Lang: "en", Notice: "page-en-1",

	Title: "Your mail preferences", From: "From", Address: "To", List: "List", AllLists: "all lists",
	Forwarded: "Not your address? Then this mail was forwarded to you: please leave everything as it is.",

	MailOn: "You receive this mail.", MailOff: "You are unsubscribed: no more mail of this list.",
	MailOffEverywhere: "All mail of this sender to this address is stopped. Only the sender can start it again; ask there.",
	OpenOn:            "The sender learns when you open a mail.", OpenOff: "The sender does not learn from us whether you open a mail.",
	OpenUnset: "You have not said whether opening may be tracked.",
	ClickOn:   "The sender learns which links you click.", ClickOff: "The sender does not learn from us which links you click.",
	ClickUnset: "You have not said whether clicks may be tracked.",

	Unsubscribe: "Unsubscribe", StopTracking: "Stop tracking, keep the mail", Resubscribe: "Subscribe again", Undo: "Undo", Save: "Save",
	Preferences: "Choose for yourself",
	AskMail:     "Send me the mail of this list?", AskOpen: "May the sender learn when I open a mail?", AskClick: "May the sender learn which links I click?",
	Yes: "Yes", No: "No",
	Saved: "Your choice is saved.", Unchanged: "Nothing to change: this held already.", Unsubscribed: "You are unsubscribed.",
	TrackingOff: "Tracking is off.", Renewed: "You are subscribed again.",

	BadLinkTitle: "This link does not work", BadLink: "It may have been cut off when it was copied. Please open the mail again and click the link there. If that does not help, answer the mail and ask to be taken off the list.",
	DownTitle: "This did not work just now", Down: "Nothing was changed that we could confirm. Please try again in a few minutes.",
	BadRequestTitle: "This request was not understood", BadRequest: "Nothing was changed. Please open the link in the mail again and use the buttons there.",
}, {
	tag: language.German, Lang: "de", Notice: "page-de-1",

	Title: "Ihre Mail-Einstellungen", From: "Von", Address: "An", List: "Liste", AllLists: "alle Listen",
	Forwarded: "Nicht Ihre Adresse? Dann wurde Ihnen diese Mail weitergeleitet: Bitte lassen Sie alles, wie es ist.",

	MailOn: "Sie erhalten diese Mail.", MailOff: "Sie sind abgemeldet: Von dieser Liste kommt keine Mail mehr.",
	MailOffEverywhere: "Alle Mail dieses Absenders an diese Adresse ist gestoppt. Nur der Absender kann das wieder ändern; bitte fragen Sie dort.",
	OpenOn:            "Der Absender erfährt, wann Sie eine Mail öffnen.", OpenOff: "Der Absender erfährt von uns nicht, ob Sie eine Mail öffnen.",
	OpenUnset: "Sie haben nicht gesagt, ob das Öffnen gemessen werden darf.",
	ClickOn:   "Der Absender erfährt, welche Links Sie anklicken.", ClickOff: "Der Absender erfährt von uns nicht, welche Links Sie anklicken.",
	ClickUnset: "Sie haben nicht gesagt, ob Klicks gemessen werden dürfen.",

	Unsubscribe: "Abmelden", StopTracking: "Nur Tracking beenden", Resubscribe: "Wieder anmelden", Undo: "Rückgängig", Save: "Speichern",
	Preferences: "Selbst wählen",
	AskMail:     "Mail dieser Liste erhalten?", AskOpen: "Darf der Absender erfahren, wann ich eine Mail öffne?", AskClick: "Darf der Absender erfahren, welche Links ich anklicke?",
	Yes: "Ja", No: "Nein",
	Saved: "Ihre Wahl ist gespeichert.", Unchanged: "Nichts zu ändern: Das galt schon.", Unsubscribed: "Sie sind abgemeldet.",
	TrackingOff: "Das Tracking ist beendet.", Renewed: "Sie sind wieder angemeldet.",

	BadLinkTitle: "Dieser Link funktioniert nicht", BadLink: "Vielleicht wurde er beim Kopieren abgeschnitten. Bitte öffnen Sie die Mail noch einmal und klicken Sie dort auf den Link. Hilft das nicht, antworten Sie auf die Mail und bitten Sie um Abmeldung.",
	DownTitle: "Das hat gerade nicht geklappt", Down: "Wir können nicht bestätigen, dass etwas geändert wurde. Bitte versuchen Sie es in einigen Minuten noch einmal.",
	BadRequestTitle: "Diese Anfrage wurde nicht verstanden", BadRequest: "Es wurde nichts geändert. Bitte öffnen Sie den Link in der Mail noch einmal und benutzen Sie die Knöpfe dort.",
}}

var matcher = func() language.Matcher {
	tags := make([]language.Tag, len(texts))
	for i, t := range texts {
		tags[i] = t.tag
	}
	return language.NewMatcher(tags)
}()

// maxAcceptLanguage bounds what is read of a header that any stranger may fill.
const maxAcceptLanguage = 512

// textFor chooses the language of the mail (RFC 5646, of the token) where the page has it, else
// what the reader's program asks for (Accept-Language, RFC 9110 §12.5.4), else English.
func textFor(mail, accept string) *text {
	if tag, err := language.Parse(mail); err == nil && mail != "" {
		if _, i, confidence := matcher.Match(tag); confidence >= language.High {
			return &texts[i]
		}
	}
	if len(accept) <= maxAcceptLanguage {
		if tags, _, err := language.ParseAcceptLanguage(accept); err == nil && len(tags) > 0 {
			if _, i, confidence := matcher.Match(tags...); confidence >= language.Low {
				return &texts[i]
			}
		}
	}
	return &texts[0]
}
