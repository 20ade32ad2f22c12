package relay

import (
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/consentgate/consentgate/relay/spool"
)

// Waiting is a message of the spool as QueueAPI shows it.
type Waiting struct {
	ID         string             `json:"id"`
	Arrived    time.Time          `json:"arrived"`
	From       string             `json:"from"`
	Scope      string             `json:"scope"`
	Class      string             `json:"class"`
	Bytes      int64              `json:"bytes"`
	Recipients []WaitingRecipient `json:"recipients"` // those still owed a copy
}

// WaitingRecipient is one of a Waiting.
type WaitingRecipient struct {
	To       string    `json:"to"`
	Attempts int       `json:"attempts"`
	Next     time.Time `json:"next"`            // of the next attempt
	Reply    string    `json:"reply,omitempty"` // the last answer
}

func shown(m spool.Message) Waiting {
	w := Waiting{ID: m.ID, Arrived: m.Arrived.UTC(), From: m.From, Scope: m.Scope, Class: m.Class, Bytes: m.Size}
	for _, r := range m.Recipients {
		w.Recipients = append(w.Recipients, WaitingRecipient{To: r.To, Attempts: r.Attempts, Next: r.Due.UTC(), Reply: r.Reply})
	}
	return w
}

// QueueAPI is QueueAPI of the server's spool; it answers that there is none in mode stateless.
func (s *Server) QueueAPI() http.Handler {
	if s.queue == nil {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			problem(w, http.StatusNotFound, "mode stateless keeps nothing, so nothing waits")
		})
	}
	return QueueAPI(s.spool, s.queue.retry, func(what string, messages ...spool.Message) {
		s.log.byHand(what, messages...)
		if what == "remove" {
			for i := range messages {
				s.cfg.Metrics.Removed(len(messages[i].Recipients))
			}
		}
	})
}

// QueueAPI returns the handler by which an operator looks at a spool and steers it. It shows
// addresses and whole messages in clear, so it is for the control socket only. retry makes a
// message due at once and reports whether there is one of that ID; done is told what was done with which messages,
// "retry" or "remove", and may be nil.
//
//	GET    /v1/queue             all that waits, oldest first: an array of Waiting
//	GET    /v1/queue/ID          one Waiting
//	GET    /v1/queue/ID/message  the message as it came in
//	POST   /v1/queue/ID/retry    makes its next attempt now
//	POST   /v1/queue/retry       the same for all
//	DELETE /v1/queue/ID          forgets it: it is not delivered, and nobody is told
//
// Errors are problem details (RFC 9457).
func QueueAPI(waiting *spool.Spool, retry func(id string) bool, done func(what string, messages ...spool.Message)) http.Handler {
	if done == nil {
		done = func(string, ...spool.Message) {}
	}
	mux := http.NewServeMux()
	one := func(f func(http.ResponseWriter, spool.Message)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			m, ok := waiting.Get(r.PathValue("id"))
			if !ok || m.Job != nil {
				problem(w, http.StatusNotFound, "no message of that ID waits")
				return
			}
			f(w, m)
		}
	}
	mux.HandleFunc("GET /v1/queue", func(w http.ResponseWriter, _ *http.Request) {
		all := []Waiting{}
		for _, m := range waiting.All() {
			all = append(all, shown(m))
		}
		writeJSON(w, http.StatusOK, "application/json", all)
	})
	mux.HandleFunc("GET /v1/queue/{id}", one(func(w http.ResponseWriter, m spool.Message) {
		writeJSON(w, http.StatusOK, "application/json", shown(m))
	}))
	mux.HandleFunc("GET /v1/queue/{id}/message", one(func(w http.ResponseWriter, m spool.Message) {
		text, err := waiting.Body(m.ID)
		if err != nil {
			problem(w, http.StatusInternalServerError, "the message cannot be read: "+err.Error())
			return
		}
		defer text.Close()
		w.Header().Set("Content-Type", "message/rfc822")
		io.Copy(w, io.NewSectionReader(text, 0, text.Size())) // a reader that is told of a failure by the missing end
	}))
	mux.HandleFunc("POST /v1/queue/{id}/retry", one(func(w http.ResponseWriter, m spool.Message) {
		if !retry(m.ID) {
			problem(w, http.StatusNotFound, "no message of that ID waits any more")
			return
		}
		done("retry", m)
		w.WriteHeader(http.StatusNoContent)
	}))
	mux.HandleFunc("POST /v1/queue/retry", func(w http.ResponseWriter, _ *http.Request) {
		all := waiting.All()
		for _, m := range all {
			retry(m.ID)
		}
		done("retry", all...)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE /v1/queue/{id}", one(func(w http.ResponseWriter, m spool.Message) {
		if err := waiting.Remove(m.ID); err != nil {
			problem(w, http.StatusInternalServerError, err.Error())
			return
		}
		done("remove", m)
		w.WriteHeader(http.StatusNoContent)
	}))
	return mux
}

func problem(w http.ResponseWriter, status int, detail string) {
	writeJSON(w, status, "application/problem+json", map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail,
	})
}

func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // whoever asked is gone where it fails
}
