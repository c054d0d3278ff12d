package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/collect"
	"github.com/wedge-cloud/wedge/control"
)

// stream writes an answer that goes on.
type stream func(http.ResponseWriter)

func (s *Server) collected(c *call) (any, error) {
	answer, err := s.answer(c)
	if err == nil && len(answer.Rows) == 0 {
		err = s.collects(c)
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}

func (s *Server) answer(c *call) (a collect.Answer, err error) {
	if s.Collected == nil {
		return a, &wedge.Error{Op: "read what was collected", Kind: wedge.Unsupported, Err: errors.New("nobody adds it up here")}
	}
	q, err := collect.ParseQuery(c.PathValue("name"), c.PathValue("collection"), c.URL.Query(), time.Now())
	if err != nil {
		return a, err
	}
	return s.Collected(q), nil
}

// collects finds out whether a service collects under a name of which nothing came of late: it did once, or a version that may run says so. What
// services a catalog without any has nobody knows here: PoPs of a world have theirs from directories.
func (s *Server) collects(c *call) error {
	service, name := c.PathValue("name"), c.PathValue("collection")
	if len(s.Collected(collect.Query{Service: service, Name: name, To: time.Now()}).Rows) > 0 {
		return nil
	}
	none, known, versions := false, false, []control.ReportVersion(nil)
	s.Control.See(func(st *control.State) {
		none, known, versions = len(st.Services) == 0, st.Services[service] != nil, st.Runnable(st.TenantOf(service))
	})
	if none {
		return nil
	}
	if !known {
		return noService(service)
	}
	names := []string{}
	for i := range versions {
		if versions[i].Service.Name != service {
			continue
		}
		says, err := s.says(c, &versions[i])
		if err != nil {
			return err
		}
		for _, one := range says.Collect {
			names = append(names, one.Name)
		}
	}
	if slices.Contains(names, name) {
		return nil
	}
	hint := "No version of it that is live, or on its way, collects anything; see [collect.NAME] in wedge.toml."
	if len(names) > 0 {
		slices.Sort(names)
		hint = "There are " + strings.Join(slices.Compact(names), ", ") + "."
	}
	return &wedge.Error{Op: "find collection", What: fmt.Sprintf("%s of %s", name, service), Kind: wedge.NotExist, Err: errors.New("there is no such collection"), Hint: hint}
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
			answer, err := s.answer(c)
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
