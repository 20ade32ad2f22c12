package guard

import (
	"golang.org/x/text/language"

	"github.com/consentgate/consentgate/consent/reader"
)

// text is what the package says, in one language. Another language is another row of texts.
type text struct {
	tag  language.Tag
	Lang string // of <html lang>

	// For a link whose destination nobody knows. Why has a place for the counter's host.
	Title, Why, Choice, GoOn string
	// For what is no link.
	BadTitle, Bad string
}

// texts holds every language; the first is the one for everybody else.
var texts = []text{{
	tag: language.English, Lang: "en",
	Title:  "Where this link leads is not known",
	Why:    "You have not agreed that your clicks are tracked, or we cannot check that just now. This link leads through a counter of the sender, %s, and only that counter knows where it ends.",
	Choice: "If you go on, the counter learns that you clicked. If you would rather not, just close this page.",
	GoOn:   "Go on through the sender's counter",

	BadTitle: "This link does not work",
	Bad:      "It may have been cut off when it was copied. Please open the mail again and click the link there.",
}, {
	tag: language.German, Lang: "de",
	Title:  "Wohin dieser Link führt, ist nicht bekannt",
	Why:    "Sie haben der Messung Ihrer Klicks nicht zugestimmt, oder wir können das gerade nicht prüfen. Dieser Link führt über einen Zähler des Absenders, %s, und nur dieser Zähler kennt das Ziel.",
	Choice: "Wenn Sie weitergehen, erfährt der Zähler von Ihrem Klick. Möchten Sie das nicht, schließen Sie einfach diese Seite.",
	GoOn:   "Weiter über den Zähler des Absenders",

	BadTitle: "Dieser Link funktioniert nicht",
	Bad:      "Vielleicht wurde er beim Kopieren abgeschnitten. Bitte öffnen Sie die Mail noch einmal und klicken Sie dort auf den Link.",
}, {
	tag: language.French, Lang: "fr",
	Title:  "La destination de ce lien n’est pas connue",
	Why:    "Vous n’avez pas accepté que vos clics soient suivis, ou nous ne pouvons pas le vérifier pour le moment. Ce lien passe par un compteur de l’expéditeur, %s, et seul ce compteur sait où il mène.",
	Choice: "Si vous continuez, le compteur saura que vous avez cliqué. Si vous ne le souhaitez pas, fermez simplement cette page.",
	GoOn:   "Continuer par le compteur de l’expéditeur",

	BadTitle: "Ce lien ne fonctionne pas",
	Bad:      "Il a peut-être été coupé lors de la copie. Veuillez rouvrir le message et cliquer sur le lien à cet endroit.",
}, {
	tag: language.Spanish, Lang: "es",
	Title:  "No se sabe adónde lleva este enlace",
	Why:    "Usted no ha aceptado que se registren sus clics, o no podemos comprobarlo en este momento. Este enlace pasa por un contador del remitente, %s, y solo ese contador sabe adónde lleva.",
	Choice: "Si continúa, el contador sabrá que ha hecho clic. Si prefiere que no, basta con cerrar esta página.",
	GoOn:   "Continuar a través del contador del remitente",

	BadTitle: "Este enlace no funciona",
	Bad:      "Puede que se haya cortado al copiarlo. Vuelva a abrir el mensaje y haga clic allí en el enlace.",
}, {
	tag: language.Italian, Lang: "it",
	Title:  "Non si sa dove porta questo link",
	Why:    "Non ha acconsentito al tracciamento dei Suoi clic, oppure al momento non possiamo verificarlo. Questo link passa per un contatore del mittente, %s, e solo quel contatore sa dove porta.",
	Choice: "Se prosegue, il contatore saprà che ha fatto clic. Se preferisce di no, chiuda semplicemente questa pagina.",
	GoOn:   "Prosegui attraverso il contatore del mittente",

	BadTitle: "Questo link non funziona",
	Bad:      "Forse è stato troncato durante la copia. Riapra il messaggio e faccia clic lì sul link.",
}, {
	tag: language.Dutch, Lang: "nl",
	Title:  "Waar deze link naartoe leidt, is niet bekend",
	Why:    "U hebt er niet mee ingestemd dat uw klikken worden gevolgd, of we kunnen dat op dit moment niet nagaan. Deze link loopt via een teller van de afzender, %s, en alleen die teller weet waar hij uitkomt.",
	Choice: "Als u doorgaat, komt de teller te weten dat u hebt geklikt. Wilt u dat niet, sluit dan gewoon deze pagina.",
	GoOn:   "Doorgaan via de teller van de afzender",

	BadTitle: "Deze link werkt niet",
	Bad:      "Misschien is hij bij het kopiëren afgekapt. Open de mail opnieuw en klik daar op de link.",
}, {
	tag: language.Portuguese, Lang: "pt",
	Title:  "Não se sabe para onde leva este link",
	Why:    "Não deu o seu consentimento para o rastreamento dos seus cliques, ou não podemos verificá-lo neste momento. Este link passa por um contador do remetente, %s, e só esse contador sabe para onde leva.",
	Choice: "Se continuar, o contador ficará a saber que clicou. Se preferir que não, basta fechar esta página.",
	GoOn:   "Continuar através do contador do remetente",

	BadTitle: "Este link não funciona",
	Bad:      "Pode ter sido cortado ao ser copiado. Abra novamente a mensagem e clique aí no link.",
}, {
	tag: language.Polish, Lang: "pl",
	Title:  "Nie wiadomo, dokąd prowadzi ten link",
	Why:    "Nie wyrażono zgody na śledzenie kliknięć albo nie możemy tego teraz sprawdzić. Ten link prowadzi przez licznik nadawcy, %s, i tylko ten licznik zna adres docelowy.",
	Choice: "Po przejściu dalej licznik dowie się o kliknięciu. Jeśli tego nie chcesz, po prostu zamknij tę stronę.",
	GoOn:   "Przejdź dalej przez licznik nadawcy",

	BadTitle: "Ten link nie działa",
	Bad:      "Być może został ucięty przy kopiowaniu. Otwórz wiadomość ponownie i kliknij w niej link.",
}}

var languages = func() reader.Languages {
	tags := make([]language.Tag, len(texts))
	for i, t := range texts {
		tags[i] = t.tag
	}
	return reader.NewLanguages(tags...)
}()

// textFor returns the text in the language of the mail, or of the reader; accept is an Accept-Language.
func textFor(mail, accept string) *text { return &texts[languages.Choose(mail, accept)] }
