package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/wedge-cloud/wedge"
)

// sessionAPI is what a guest reaches at http://session.wedge.internal/: the session of its client's request.
//
//	GET    /   what the session holds; Wedge-Metadata, ETag
//	PUT    /   makes it hold that, and begins it if there is none; Wedge-Metadata, If-Match
//	DELETE /
//
// The guest passes the token on that its client has sent: the client's Cookie, or the token alone in Wedge-Session. Each answer has the token of
// the session as it is then, as Set-Cookie for the client and in Wedge-Session, and says in Wedge-Session-Status where the session was.
type sessionAPI struct {
	sessions *sessions
	service  string
	cfg      wedge.Sessions
	secure   bool // clients come by TLS
}

// sessionsName is reserved under wedge.internal.
const sessionsName = "session"

// Fields of the session API.
const (
	fieldSession       = "Wedge-Session"
	fieldSessionStatus = "Wedge-Session-Status"
)

// sessionsOf returns the session API of a version.
func (n *Node) sessionsOf(v *wedge.Version) http.Handler {
	if v.Sessions == nil {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			answerError(w, &wedge.Error{Op: "use session", What: v.Service, Kind: wedge.NotExist, Err: errors.New("the version keeps no sessions"), Hint: "Add [sessions] to wedge.toml."})
		})
	}
	return &sessionAPI{sessions: n.sessions, service: v.Service, cfg: *v.Sessions, secure: len(n.cfg.HTTPS) > 0}
}

// ServeHTTP implements http.Handler.
func (a *sessionAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "private, no-store")
	if err := a.serve(w, r); err != nil {
		if wedge.KindOf(err) == wedge.Unavailable {
			w.Header().Set("Retry-After", "1")
		}
		answerError(w, err)
	}
}

func (a *sessionAPI) serve(w http.ResponseWriter, r *http.Request) error {
	op := &sessionOp{Token: tokenIn(r.Header.Get(fieldSession), r.Header["Cookie"], a.cookie()), Tag: r.Header.Get("If-Match"),
		TTL: a.cfg.TTL, Jurisdiction: a.cfg.Jurisdiction, Copied: a.cfg.Standby, Stand: a.cfg.Lost == wedge.LostStandby}
	switch {
	case r.URL.Path != "/":
		return &wedge.Error{Op: "use session", What: r.URL.Path, Kind: wedge.NotExist, Err: errors.New("there is nothing but /"), Hint: "The token says which session is meant."}
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		op.Do = "get"
	case r.Method == http.MethodDelete:
		op.Do = "delete"
	case r.Method == http.MethodPut:
		op.Do, op.Metadata = "put", []byte(r.Header.Get(fieldMetadata))
		if len(op.Metadata) > wedge.MaxSessionMetadata {
			return &wedge.Error{Op: "write session", Kind: wedge.Exhausted, Err: errors.New("the metadata is too large"), Hint: fmt.Sprintf("It may have %d bytes.", wedge.MaxSessionMetadata)}
		}
		var err error
		if op.data, err = bodyUpTo(r, wedge.MaxSession); err != nil {
			return err
		}
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT, DELETE")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	}
	got, err := a.sessions.do(r.Context(), a.service, op)
	if err != nil {
		return err
	}
	a.answer(w, op, &got)
	return nil
}

func (a *sessionAPI) cookie() string { return cmp.Or(a.cfg.Cookie, wedge.DefaultSessionCookie) }

func (a *sessionAPI) answer(w http.ResponseWriter, op *sessionOp, got *sessionResult) {
	h, n := w.Header(), got.session
	h.Set(fieldSessionStatus, got.status+"; epoch="+strconv.FormatUint(n.Epoch, 10))
	c := http.Cookie{Name: a.cookie(), Value: got.token, Path: "/", HttpOnly: true, Secure: a.secure, SameSite: http.SameSiteLaxMode,
		MaxAge: max(int(n.Expires.Sub(a.sessions.now())/time.Second), 1)}
	if op.Do == "delete" {
		c.Value, c.MaxAge = "", -1
	} else {
		h.Set(fieldSession, got.token)
		h.Set("Etag", n.Tag())
	}
	h.Set("Set-Cookie", c.String())
	if op.Do != "get" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if len(n.Metadata) > 0 {
		h.Set(fieldMetadata, string(n.Metadata))
	}
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.Itoa(len(n.Data)))
	_, _ = w.Write(n.Data)
}

// uncached is an http.RoundTripper that lets what is Wedge's own answer before the cache, which would take each write there for
// one to a page, and have all PoPs purge it.
type uncached struct {
	calls, next http.RoundTripper
	service     string // whose guest fetches
}

// RoundTrip implements http.RoundTripper.
func (t uncached) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.WithContext(context.WithValue(req.Context(), callerKey{}, t.service))
	if name, ok := serviceNamed(req); ok && slices.Contains(wedge.ReservedNames, name) {
		return t.calls.RoundTrip(req)
	}
	return t.next.RoundTrip(req)
}
