package manifest

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
)

// rateName is what clients are told of a rate that has no name.
const rateName = "default"

// wedgeRates reads how many requests are let in: [[rate]].
func wedgeRates(t *table, ver *wedge.Version) {
	v, ok := t.get("rate")
	if !ok {
		return
	}
	list, _ := v.list()
	if len(list) > wedge.MaxRates {
		v.fail("", "%d rates, at most %d", len(list), wedge.MaxRates)
		return
	}
	names := map[string]bool{}
	for _, one := range list {
		sub, ok := one.table()
		if !ok {
			continue
		}
		r := wedgeRate(sub)
		if names[r.Name] {
			one.fail(`Give each a name of its own, such as name = "login".`, "another has the name %s", r.Name)
		}
		names[r.Name] = true
		ver.Rates = append(ver.Rates, r)
	}
}

func wedgeRate(t *table) (r wedge.Rate) {
	if r.Name = t.str("name"); r.Name == "" {
		r.Name = rateName
	}
	if !nameRule.MatchString(r.Name) {
		t.fail("A name has 1 to 63 of a-z 0-9 and dashes between them.", "bad name %q", r.Name)
	}
	r.Path, r.Hosts, r.Methods = wedgeMatch(t)
	for _, m := range r.Methods {
		if strings.ToUpper(m) != m || m == "" {
			t.fail(`Write it in capitals, such as "POST": methods are told apart by case.`, "%q is no method", m)
		}
	}
	r.Key = rateKeys(t)
	r.Limit, r.Window = rateLimit(t)
	switch fail := t.str("fail"); fail {
	case "", "open":
	case "closed":
		r.Closed = true
	default:
		t.fail(`Write "open", which lets in a part of the limit when the PoP that counts cannot be asked, or "closed", which then lets in nothing.`, "unknown fail %q", fail)
	}
	r.Headers = t.bool("headers", false)
	t.done()
	return r
}

// rateLimit reads limit = "1000/1h".
func rateLimit(t *table) (limit int64, window time.Duration) {
	const hint = `Write how many in which time, such as limit = "1000/1h" or "20/1m"; the time is whole seconds, at most "24h".`
	v, ok := t.get("limit")
	if !ok {
		t.fail(hint, "there is no limit")
		return 0, 0
	}
	s, ok := v.str()
	if !ok {
		return 0, 0
	}
	count, length, _ := strings.Cut(s, "/")
	limit, err := strconv.ParseInt(strings.TrimSpace(count), 10, 64)
	window, werr := time.ParseDuration(strings.TrimSpace(length))
	if err != nil || werr != nil {
		v.fail(hint, "%q is not a limit", s)
	} else if limit < 1 || limit > wedge.MaxRateLimit {
		v.fail("", "a limit of %d is not between 1 and %d", limit, wedge.MaxRateLimit)
	} else if window < time.Second || window > wedge.MaxRateWindow || window%time.Second != 0 {
		v.fail(hint, "a window of %v", window)
	}
	return limit, window
}

// rateKeys reads key = "client", or ["host", "header:X-Api-Key"].
func rateKeys(t *table) (keys []wedge.RateKey) {
	v, ok := t.get("key")
	if !ok {
		return nil
	}
	parts := []value{v}
	if _, one := v.v.(string); !one {
		parts, _ = v.list()
	}
	for _, p := range parts {
		s, ok := p.str()
		if !ok {
			continue
		}
		k, ok := wedge.ParseRateKey(s)
		if !ok || k.Name != "" && !cookieName.MatchString(k.Name) {
			p.fail(`Write "client" (its address), "host", "header:NAME" or "cookie:NAME"; without key all requests are counted together.`, "unknown key %q", s)
		}
		if k.Kind == wedge.RateHeader {
			k.Name = http.CanonicalHeaderKey(k.Name)
		}
		keys = append(keys, k)
	}
	if len(keys) > wedge.MaxRateKeys {
		v.fail("", "%d keys, at most %d", len(keys), wedge.MaxRateKeys)
	}
	return keys
}
