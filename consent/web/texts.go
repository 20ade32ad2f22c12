package web

import (
	"golang.org/x/text/language"

	"github.com/consentgate/consentgate/consent/reader"
)

// text is the page in one language, and the mail that asks for a confirmation. Each stands in a file
// of its own; another language is another of them. Names and addresses never stand in a sentence,
// so that no grammar has to fit them.
type text struct {
	tag    language.Tag
	Lang   string // of <html lang>
	Notice string // recorded with a consent given on the page: change it when the wording of a question or of Agree changes

	Title, From, Address, List, AllLists string

	// The two buttons, what each does, and what neither does.
	Unsubscribe, UnsubscribeMeans, StopTracking, StopTrackingMeans, StillComes, Resubscribe string

	// What holds now. The two of what nobody said differ by what the operator does then.
	HoldsTitle, MailOn, MailOff, MailOffEverywhere string
	OpenOn, OpenOff, OpenUnset, OpenUnsetOn        string
	ClickOn, ClickOff, ClickUnset, ClickUnsetOn    string
	Pending                                        string // a consent that waits to be confirmed

	// The preferences. Agree is what a consent means, where the operator has no text of their own.
	Preferences, AskMail, AskOpen, AskClick, Yes, No    string
	AgreeTitle, Agree, NoticeVersion, ConfirmHint, Save string

	NotYouTitle, NotYou string // to whom the mail was forwarded

	// What was done.
	Saved, Unchanged, Unsubscribed, TrackingOff, Renewed string
	Undo, Undone, UndoGone, Asked, AskedOften            string

	// The page behind the link of the mail that asks for a confirmation.
	ConfirmTitle, ConfirmLead, GrantMail, GrantOpen, GrantClick string
	ConfirmButton, ConfirmIgnore, Confirmed                     string
	ConfirmGoneTitle, ConfirmGone                               string

	// That mail.
	MailSubject, MailLead, MailOpen, MailIgnore string

	// What went wrong.
	BadLinkTitle, BadLink, DownTitle, Down, BadRequestTitle, BadRequest string
}

// texts holds every language of the page; the first is the one for everybody else.
var texts = []text{english, german, french, spanish, italian, dutch, portuguese, polish}

var languages = func() reader.Languages {
	tags := make([]language.Tag, len(texts))
	for i, t := range texts {
		tags[i] = t.tag
	}
	return reader.NewLanguages(tags...)
}()

// textFor returns the text in the language of the mail, or of the reader; accept is an Accept-Language.
func textFor(mail, accept string) *text { return &texts[languages.Choose(mail, accept)] }
