package node

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Messages that purge. They come as webhooks to a path of the service, or over the bus, where one PoP takes each; that one
// purges as if it had been asked to, so every PoP hears of it.

const (
	maxEventBody = 1 << 20
	eventSubject = "event.*" // and the service's name
	maxEventKey  = 1024      // bytes
)

// eventAt returns the event whose messages come to a request's path, nil if there is none.
func (p *purger) eventAt(r *http.Request) *wedge.Event {
	if r.Method != http.MethodPost {
		return nil
	}
	for i := range p.version.Events {
		if e := &p.version.Events[i]; e.Path != "" && e.Path == r.URL.Path {
			return e
		}
	}
	return nil
}

// event answers a webhook.
func (p *purger) event(w http.ResponseWriter, r *http.Request, e *wedge.Event) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEventBody))
	if err != nil {
		p.refuse(w, &wedge.Error{Op: "read event", Kind: wedge.Invalid, Err: err, Hint: "A message has at most a MiB."})
		return
	}
	if !signed(e, r.Header.Get(e.Header), body) && (len(e.Secret) > 0 || !p.allowed(r)) {
		p.refuse(w, &wedge.Error{Op: "take event", Kind: wedge.Denied, Err: errors.New("no valid signature"),
			Hint: "Send the body's HMAC-SHA256 with the event's secret in " + e.Header + ", or without a secret one of the service's api_keys."})
		return
	}
	order, err := eventOrder(p.version.Service, []wedge.Event{*e}, body, p.now())
	if err == nil {
		err = p.purge(order)
	}
	if err != nil {
		p.refuse(w, err)
		return
	}
	p.log(order)
	answerPurge(w, http.StatusOK, map[string]string{"status": "ok", "id": order.ID})
}

func (p *purger) refuse(w http.ResponseWriter, err error) {
	answerPurge(w, wedge.KindOf(err).Status(), map[string]string{"kind": wedge.KindOf(err).String(), "error": err.Error(), "hint": wedge.HintOf(err)})
}

// signed reports whether a signature, in hex and with or without its algorithm's name before it, is a body's.
func signed(e *wedge.Event, given string, body []byte) bool {
	sum, err := hex.DecodeString(strings.TrimPrefix(given, "sha256="))
	if err != nil || len(e.Secret) == 0 {
		return false
	}
	mac := hmac.New(sha256.New, e.Secret)
	mac.Write(body)
	return hmac.Equal(sum, mac.Sum(nil))
}

// eventOrder returns the purge that a message means to a service: of the keys of all events whose fields it has.
func eventOrder(service string, events []wedge.Event, body []byte, now time.Time) (wedge.Purge, error) {
	bad := func(why, hint string) (wedge.Purge, error) {
		return wedge.Purge{}, &wedge.Error{Op: "take event", What: service, Kind: wedge.Invalid, Err: errors.New(why), Hint: hint}
	}
	var message any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber() // a number is the text that was sent
	if err := d.Decode(&message); err != nil {
		return bad("the message is no JSON", "")
	}
	order := wedge.Purge{ID: newPurgeID(), Service: service, At: now, Soft: true}
	for _, e := range events {
		order.Soft = order.Soft && e.Soft
		for _, k := range e.Keys {
			order.Keys = append(order.Keys, keysOf(k, message)...)
		}
	}
	slices.Sort(order.Keys)
	order.Keys = slices.Compact(order.Keys)
	switch {
	case len(order.Keys) == 0:
		return bad("the message has none of the fields that make keys", "Look at the events in wedge.toml.")
	case len(order.Keys) > wedge.MaxPurgeKeys:
		return bad(fmt.Sprintf("the message makes %d keys, and a purge has at most %d", len(order.Keys), wedge.MaxPurgeKeys), "Send several messages.")
	}
	return order, nil
}

// keysOf fills the fields of a message in; of a list each element makes a key of its own. Without one of the fields there is none.
func keysOf(template string, message any) (keys []string) {
	before, rest, found := strings.Cut(template, "{")
	if !found {
		return []string{template}
	}
	field, after, _ := strings.Cut(rest, "}")
	values := valuesOf(message, strings.Split(field, "."), nil)
	tails := keysOf(after, message)
	if len(values)*len(tails) > 4*wedge.MaxPurgeKeys { // too many in any case, and not to be made
		values = values[:min(len(values), wedge.MaxPurgeKeys+1)]
		tails = tails[:1]
	}
	for _, v := range values {
		for _, tail := range tails {
			if k := before + v + tail; len(k) <= maxEventKey && !strings.ContainsAny(k, " \t\r\n") {
				keys = append(keys, k)
			}
		}
	}
	return keys
}

// valuesOf returns what is at a path in a message, as text.
func valuesOf(v any, path []string, values []string) []string {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			values = valuesOf(e, path, values)
		}
	case map[string]any:
		if len(path) > 0 {
			values = valuesOf(v[path[0]], path[1:], values)
		}
	case string:
		if len(path) == 0 && v != "" {
			values = append(values, v)
		}
	case json.Number:
		if len(path) == 0 {
			values = append(values, v.String())
		}
	case bool:
		if len(path) == 0 {
			values = append(values, strconv.FormatBool(v))
		}
	}
	return values
}

// takeEvent takes a message that came over the bus, and answers what became of it, as JSON.
func (n *Node) takeEvent(subject string, body []byte) []byte {
	service := strings.TrimPrefix(subject, strings.TrimSuffix(eventSubject, "*"))
	order, err := n.eventFor(service, body)
	if err == nil {
		err = n.Purge(order)
	}
	answer := map[string]string{"status": "ok", "id": order.ID}
	if err != nil {
		answer = map[string]string{"kind": wedge.KindOf(err).String(), "error": err.Error(), "hint": wedge.HintOf(err)}
	} else {
		n.console.purged(order)
	}
	b, _ := json.Marshal(answer) // texts only
	return b
}

func (n *Node) eventFor(service string, body []byte) (wedge.Purge, error) {
	n.mu.Lock()
	d := n.deployed[service]
	n.mu.Unlock()
	if d == nil || len(d.version.Events) == 0 {
		return wedge.Purge{}, &wedge.Error{Op: "take event", What: service, Kind: wedge.NotExist, Err: errors.New("no such service here, or it has no events"), Hint: "Add [[events]] to its wedge.toml."}
	}
	if len(body) > maxEventBody {
		return wedge.Purge{}, &wedge.Error{Op: "take event", What: service, Kind: wedge.Invalid, Err: errors.New("the message is larger than a MiB")}
	}
	return eventOrder(service, d.version.Events, body, n.cfg.Now())
}
