package main

import (
	"log/slog"
	"net/http"
	"time"
)

// maxHTTPConnections is how many connections one HTTP listener has at once, so that those who only hold
// them leave memory and file descriptors to the mail. The next wait until one is closed: what holds a
// connection without a request is cut after 5 s.
const maxHTTPConnections = 4096

// newHTTPServer bounds what a stranger may take of the gateway's time and memory. The page and
// the API both send and take little.
func newHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}
