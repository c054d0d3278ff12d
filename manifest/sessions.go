package manifest

import (
	"net/url"
	"regexp"
	"time"

	"github.com/wedge-cloud/wedge"
)

// sessionBackend is the backend that a guest gets with [sessions].
const sessionBackend = "session"

var cookieName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$")

// wedgeSessions reads how the service keeps sessions of its clients.
func wedgeSessions(parent *table, app *App) {
	v, ok := parent.get("sessions")
	if !ok {
		return
	}
	t, ok := v.table()
	if !ok {
		return
	}
	keep := &wedge.Sessions{TTL: sessionTTL(t), Jurisdiction: t.str("jurisdiction"), Standby: t.bool("standby", false), Lost: wedge.SessionLost(t.str("lost")), Cookie: t.str("cookie")}
	ver := &app.Version
	if app.GuestPath == "" {
		v.fail("Take it out, or add a guest.", "of no use without a guest, which reads and writes sessions")
	}
	if t.has("jurisdiction") && !nameRule.MatchString(keep.Jurisdiction) {
		v.fail(`Write it as the PoPs' own files do, such as "eu".`, "bad jurisdiction %q", keep.Jurisdiction)
	}
	for name, s := range ver.Stores {
		if s.Jurisdiction != "" && s.Jurisdiction != keep.Jurisdiction && keep.Jurisdiction != "" {
			v.fail("Make a service of each, and let one call the other by name for what may cross.", "sessions are in jurisdiction %s, and store %s in %s", keep.Jurisdiction, name, s.Jurisdiction)
		}
	}
	if t.has("lost") && keep.Lost != wedge.LostWait && keep.Lost != wedge.LostStandby {
		v.fail(`Write "wait" or "standby".`, "unknown lost %q", keep.Lost)
	}
	if keep.Lost == wedge.LostStandby && !keep.Standby {
		v.fail("Add standby = true.", "sessions cannot go on from copies that nobody makes")
	}
	if t.has("cookie") && !cookieName.MatchString(keep.Cookie) {
		v.fail("Use up to 64 letters, digits and dashes.", "bad name for a cookie: %q", keep.Cookie)
	}
	t.done()
	ver.Sessions = keep
	if _, ok := ver.Backend(sessionBackend); !ok {
		ver.Backends = append(ver.Backends, wedge.Backend{Name: sessionBackend, URL: &url.URL{Scheme: "http", Host: "session.wedge.internal"}})
	}
}

// sessionTTL reads how long sessions live, which may be longer than other durations.
func sessionTTL(t *table) time.Duration {
	v, ok := t.get("ttl")
	if !ok {
		return 0
	}
	s, ok := v.str()
	d, err := time.ParseDuration(s)
	if ok && (err != nil || d < time.Second || d > wedge.MaxSessionTTL) {
		v.fail(`Write a duration such as "30m", "24h" or "720h", at least "1s" and at most "2160h", which is 90 days.`, "%q is not a time that a session can live", s)
	}
	return d
}
