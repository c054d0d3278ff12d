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

const (
	collectSince = 5 * time.Minute
	maxRows      = 5000 // of steps in time
)

// collectQuery reads what a request asks for: from and to (RFC 3339) or since (such as 5m), by, which may be given again, and step.
func collectQuery(c *call) (q collect.Query, err error) {
	v := c.URL.Query()
	bad := func(what string) error {
		return &wedge.Error{Op: "read query", What: what, Kind: wedge.Invalid, Err: errors.New("it cannot be used"), Hint: "Write from and to as 2026-01-02T15:04:05Z, and since and step as 5m or 10s."}
	}
	q = collect.Query{Service: c.PathValue("name"), Name: c.PathValue("collection"), By: v["by"], To: time.Now()}
	since := collectSince
	for name, into := range map[string]*time.Duration{"since": &since, "step": &q.Step} {
		if s := v.Get(name); s != "" {
			if *into, err = time.ParseDuration(s); err != nil || *into < time.Second {
				return q, bad(name)
			}
		}
	}
	q.From = q.To.Add(-since)
	for name, into := range map[string]*time.Time{"from": &q.From, "to": &q.To} {
		if s := v.Get(name); s != "" {
			if *into, err = time.Parse(time.RFC3339, s); err != nil {
				return q, bad(name)
			}
		}
	}
	if q.From = q.From.UTC().Truncate(time.Second); len(q.By) > wedge.MaxCollectBy || q.Step > 0 && q.To.Sub(q.From)/q.Step > maxRows {
		return q, bad("by or step")
	}
	if q.By == nil {
		q.By = []string{}
	}
	return q, nil
}

func (s *Server) collected(c *call) (any, error) {
	if s.Collected == nil {
		return nil, &wedge.Error{Op: "read what was collected", Kind: wedge.Unsupported, Err: errors.New("nobody adds it up here")}
	}
	q, err := collectQuery(c)
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
