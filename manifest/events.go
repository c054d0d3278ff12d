package manifest

import (
	"strings"

	"github.com/wedge-cloud/wedge"
)

const (
	maxEvents       = 50
	signatureHeader = "X-Hub-Signature-256" // many senders of webhooks use this one
)

// wedgeEvents reads what messages purge.
func wedgeEvents(t *table, ver *wedge.Version) {
	v, ok := t.get("events")
	if !ok {
		return
	}
	list, _ := v.list()
	if len(list) > maxEvents {
		v.fail("Several keys can stand in one of them.", "%d events, and no more than %d are read", len(list), maxEvents)
		return
	}
	for _, one := range list {
		e, ok := one.table()
		if !ok {
			continue
		}
		ev := wedge.Event{Path: e.str("path"), Header: e.str("header"), Keys: e.strs("keys"), Soft: e.bool("soft", false)}
		if ev.Path != "" && !strings.HasPrefix(ev.Path, "/") {
			one.fail("It is the path of a URL, such as /hooks/products.", "bad path %q", ev.Path)
		}
		if s, ok := e.get("secret"); ok {
			ev.Secret, _ = wedgeSecret(s)
		}
		if ev.Header == "" {
			ev.Header = signatureHeader
		}
		if len(ev.Keys) == 0 {
			one.fail(`Write keys = ["product-{id}"].`, "the event purges nothing")
		}
		for _, k := range ev.Keys {
			if strings.Count(k, "{") != strings.Count(k, "}") || k == "" {
				one.fail("Fields of the message stand in braces, such as {id} or {product.id}.", "bad key %q", k)
			}
		}
		e.done()
		ver.Events = append(ver.Events, ev)
	}
}
