package demo

import "net/http"

func (s *show) routes() http.Handler { mux := http.NewServeMux(); return mux }
