package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/wedge-cloud/wedge/sdk/go/store"
)

// Session is what the service keeps of one client. It follows the client from PoP to PoP:
//
//	s, err := edge.OpenSession(w, r)
//	...
//	s.Data = append(s.Data, "something"...)
//	err = s.Save()
//
// The service needs a table [sessions] in its wedge.toml. Clients hold a cookie; one that sends the token in Wedge-Session instead gets it
// there.
type Session struct {
	Data     []byte // up to 1 MiB
	Metadata string // up to 2,000 bytes, without line breaks
	New      bool   // there is none yet, or none any more; Save begins one

	// Status says where the session was, such as: moved; from="lhr"; ms=80.1; epoch=4. Save changes it.
	Status string

	w       http.ResponseWriter
	ctx     context.Context
	byField bool     // the client sends the token in sessionField
	token   string   // "": cookies may have it
	cookies []string // as the client sent them
	tag     string   // what it held when it was read
}

const (
	sessionField  = "Wedge-Session"
	sessionStatus = "Wedge-Session-Status"
	sessionTarget = "http://session.wedge.internal/"
)

// OpenSession returns the session of the client that has sent r. A client that sends none, or what is none, gets a new one. The error
// says that the session is somewhere and cannot be had now.
func OpenSession(w http.ResponseWriter, r *http.Request) (*Session, error) {
	s := &Session{w: w, ctx: WithCache(r.Context(), Cache{Pass: true}), token: r.Header.Get(sessionField), cookies: r.Header["Cookie"]}
	s.byField = s.token != ""
	resp, err := s.ask(http.MethodGet, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusForbidden:
		s.New, s.token, s.cookies = true, "", nil // what the client has sent is of no use
		return s, nil
	default:
		return nil, sessionError(resp)
	}
	if s.Data, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	s.Metadata = resp.Header.Get("Wedge-Metadata")
	s.note(resp)
	return s, nil
}

// Save writes the session, and begins it if it is new. It must come before the response's header is sent, which takes the cookie. The error
// matches [ErrConflict] if the session was written since it was opened: open it again.
func (s *Session) Save() error {
	resp, err := s.ask(http.MethodPut, s.Data)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return sessionError(resp)
	}
	s.New = false
	s.note(resp)
	return nil
}

// End deletes the session, and has the client forget it.
func (s *Session) End() error {
	if s.New {
		return nil
	}
	resp, err := s.ask(http.MethodDelete, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return sessionError(resp)
	}
	s.note(resp)
	s.New, s.Data, s.Metadata, s.token, s.tag = true, nil, "", "", ""
	return nil
}

func (s *Session) ask(method string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(s.ctx, method, sessionTarget, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if s.token != "" {
		req.Header.Set(sessionField, s.token)
	} else if len(s.cookies) > 0 {
		req.Header["Cookie"] = s.cookies
	}
	if method == http.MethodPut && s.Metadata != "" {
		req.Header.Set("Wedge-Metadata", s.Metadata)
	}
	if s.tag != "" {
		req.Header.Set("If-Match", s.tag)
	}
	return Backend("session").RoundTrip(req)
}

// note keeps the token that an answer has, for what follows and for the client.
func (s *Session) note(resp *http.Response) {
	s.Status, s.token, s.tag, s.cookies = resp.Header.Get(sessionStatus), resp.Header.Get(sessionField), resp.Header.Get("Etag"), nil
	h := s.w.Header()
	if s.byField {
		h.Set(sessionField, s.token)
		return
	}
	cookie := resp.Header.Get("Set-Cookie")
	name, _, _ := strings.Cut(cookie, "=")
	others := slices.DeleteFunc(h["Set-Cookie"], func(line string) bool { return strings.HasPrefix(line, name+"=") })
	h["Set-Cookie"] = append(others, cookie)
}

// sessionError is what the host says went wrong.
func sessionError(resp *http.Response) error {
	var said struct{ Error string }
	b, err := io.ReadAll(io.LimitReader(resp.Body, 16<<10))
	if err != nil || json.Unmarshal(b, &said) != nil || said.Error == "" {
		said.Error = resp.Status
	}
	e := error(errors.New(said.Error))
	if resp.StatusCode == http.StatusPreconditionFailed {
		e = ErrConflict
	}
	return &store.Error{Op: "use", What: "session", Err: e}
}
