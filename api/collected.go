package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/collect"
)

// stream writes an answer that goes on.
type stream func(http.ResponseWriter)

func (s *Server) collected(c *call) (any, error) {
	if s.Collected == nil {
		return nil, &wedge.Error{Op: "read what was collected", Kind: wedge.Unsupported, Err: errors.New("nobody adds it up here")}
	}
	q, err := collect.ParseQuery(c.PathValue("name"), c.PathValue("collection"), c.URL.Query(), time.Now())
	if err != nil {
		return nil, err
	}
	return s.Collected(q), nil
}

// live answers again each second, until the client goes.
func (s *Server) live(c *call) (any, error) {
	if _, err := s.collected(c); err != nil {
		return nil, err
	}
	return stream(func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			answer, err := s.collected(c)
			if err != nil || json.NewEncoder(w).Encode(answer) != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			select {
			case <-t.C:
			case <-c.Context().Done():
				return
			}
		}
	}), nil
}
