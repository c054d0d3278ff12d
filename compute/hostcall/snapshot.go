package hostcall

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/wedge-cloud/wedge/compute"
)

// ParkAt is the hostcall at which guests with snapshot start are parked: the one by which
// every SDK asks for its request.
const ParkAt = "fastly_http_req.body_downstream_get"

var _ compute.Heir = (*exec)(nil)

// Template returns a sandbox for the start-up of a guest with snapshot start: it has no
// request, and what its guest opens is there for every sandbox that begins at the snapshot.
func (h *Handler) Template() *compute.Sandbox {
	sb, _ := h.sandbox(context.Background(), newID(h.random))
	return sb
}

// Inherit gives e the handles that a template's guest opened before it asked for its request.
// What names the version's bindings can be handed on; requests, bodies and pending operations
// belong to one sandbox, so a guest that makes some too early cannot start from a snapshot.
func (e *exec) Inherit(template any) error {
	t, ok := template.(*exec)
	if !ok {
		return errors.New("the template is not a sandbox of this ABI")
	}
	if len(t.items.rows)+len(t.requests.rows)+len(t.answers.rows) > 0 {
		return errors.New("the guest made requests or bodies before it asked for its request")
	}
	e.bindings = t.bindings.clone()
	e.items.next, e.requests.next, e.answers.next = t.items.next, t.requests.next, t.answers.next
	e.backends = maps.Clone(t.backends)
	return nil
}

func (b *bindings) clone() bindings {
	c := *b
	c.kvTurns = nil
	c.kvStores = b.kvStores.clone()
	c.configs = b.configs.clone()
	c.dictionaries = b.dictionaries.clone()
	c.secretStores = b.secretStores.clone()
	c.secrets = b.secrets.clone()
	c.acls = b.acls.clone()
	c.endpoints = b.endpoints.clone()
	return c
}

// clone returns a table with the same handles; each of the two can be changed on its own.
func (t *table[T]) clone() table[T] {
	c := *t
	c.rows = slices.Clone(t.rows)
	return c
}

func (p *endpoints) clone() endpoints {
	return endpoints{names: p.names.clone(), handles: maps.Clone(p.handles)}
}
