package metrics

// Refusal is why a command or a message was refused.
type Refusal string

const (
	RefusedLogin      Refusal = "login"
	RefusedPolicy     Refusal = "policy"
	RefusedContent    Refusal = "content"
	RefusedNoRoom     Refusal = "no_room"
	RefusedStore      Refusal = "store"
	RefusedInternal   Refusal = "internal"
	RefusedStopping   Refusal = "stopping"
	RefusedTooLarge   Refusal = "too_large"
	RefusedBroken     Refusal = "broken"
	RefusedLoop       Refusal = "loop"
	RefusedRecipients Refusal = "recipients"
	RefusedAddress    Refusal = "address"
	RefusedSequence   Refusal = "sequence"
	RefusedSyntax     Refusal = "syntax"
	RefusedUnknown    Refusal = "unknown"
	RefusedLine       Refusal = "line"
	RefusedTLS        Refusal = "tls"
	RefusedTooMany    Refusal = "too_many"
	RefusedOther      Refusal = "other"
)

// refusals are those that happen, by command. Any command may be one too many, or too long.
var refusals = map[string][]Refusal{
	"EHLO":     {RefusedSyntax, RefusedUnknown},
	"MAIL":     {RefusedSyntax, RefusedSequence, RefusedLogin, RefusedAddress, RefusedTooLarge, RefusedStopping},
	"RCPT":     {RefusedSyntax, RefusedSequence, RefusedLogin, RefusedAddress, RefusedRecipients},
	"DATA":     {RefusedSyntax, RefusedSequence, RefusedPolicy, RefusedContent, RefusedTooLarge, RefusedLoop, RefusedNoRoom, RefusedStore, RefusedInternal, RefusedStopping, RefusedBroken},
	"BDAT":     {RefusedSyntax, RefusedSequence, RefusedContent, RefusedBroken},
	"AUTH":     {RefusedSyntax, RefusedSequence, RefusedLogin, RefusedTLS},
	"STARTTLS": {RefusedSequence},
	"other":    {RefusedSyntax, RefusedUnknown},
}

func (m *Metrics) resolveRefused() {
	for command, all := range refusals {
		for _, why := range append([]Refusal{RefusedTooMany, RefusedLine}, all...) {
			m.refused.WithLabelValues(command, string(why))
		}
	}
}

// Command is how a command is called in labels.
func Command(verb string) string {
	switch verb {
	case "HELO", "LHLO":
		return "EHLO"
	}
	if _, ok := refusals[verb]; ok {
		return verb
	}
	return "other"
}

// Refused counts a command, which Command named, or a message, "DATA", that was answered 4yz or 5yz.
func (m *Metrics) Refused(command string, why Refusal) {
	m.refused.WithLabelValues(command, string(why)).Inc()
}

// RefusalOf reads an answer whose cause is not known otherwise: its code, and the enhanced one of RFC 3463.
func RefusalOf(command string, code int, e [3]int) Refusal {
	switch [2]int{e[1], e[2]} {
	case [2]int{7, 0}, [2]int{7, 8}:
		return RefusedLogin
	case [2]int{7, 1}:
		return RefusedPolicy
	case [2]int{7, 10}:
		return RefusedTLS
	case [2]int{6, 0}, [2]int{6, 3}:
		return RefusedContent
	case [2]int{3, 1}:
		return RefusedNoRoom
	case [2]int{3, 0}:
		return RefusedInternal
	case [2]int{3, 2}:
		return RefusedStopping
	case [2]int{3, 4}:
		return RefusedTooLarge
	case [2]int{4, 2}:
		return RefusedBroken
	case [2]int{4, 0}:
		return RefusedLine
	case [2]int{4, 6}:
		return RefusedLoop
	case [2]int{5, 3}:
		return RefusedRecipients
	case [2]int{1, 3}, [2]int{1, 7}, [2]int{6, 7}:
		return RefusedAddress
	case [2]int{5, 1}:
		if code == 500 || command == "other" { // not implemented, or of LMTP
			return RefusedUnknown
		}
		return RefusedSequence
	case [2]int{5, 2}:
		if code == 500 {
			return RefusedUnknown
		}
		return RefusedSyntax
	case [2]int{5, 4}:
		return RefusedSyntax
	case [2]int{0, 0}:
		switch code {
		case 421: // a panic of go-smtp's
			return RefusedInternal
		case 501: // a login that was cancelled
			return RefusedSyntax
		case 554: // a chunk that broke off
			return RefusedBroken
		}
	}
	return RefusedOther
}
