package api

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/control"
)

// Missing asks which of some chunks are not there, and answers that.
type Missing struct {
	Digests []control.Digest `json:"digests"`
}

func (s *Server) missing(c *call) (any, error) {
	var m Missing
	if err := c.read(&m); err != nil {
		return nil, err
	}
	known, foreign := s.known(c, m.Digests)
	missing, err := s.notThere(c.Context(), known)
	return Missing{append(missing, foreign...)}, err
}

// known tells the chunks that a caller may know are there from those that it has to upload though they may be: what others have
// uploaded is nothing to a tenant, for who asks for a digest would learn what they have, and who named it would get it.
func (s *Server) known(c *call, digests []control.Digest) (known, foreign []control.Digest) {
	if c.Tenant == "" {
		return digests, nil
	}
	own := s.chunksOf(c.Tenant)
	for _, d := range digests {
		_, has := own[d]
		if _, brought := s.uploads.size(c.Tenant, d); has || brought {
			known = append(known, d)
		} else if d.Valid() {
			foreign = append(foreign, d)
		}
	}
	return known, foreign
}

func (s *Server) chunksOf(tenant string) (all map[control.Digest]int64) {
	s.Control.See(func(st *control.State) { all = st.ChunksOf(tenant) })
	return all
}

// lookups is how many chunks are looked for at once.
const lookups = 16

// notThere returns which of these chunks are not there.
func (s *Server) notThere(ctx context.Context, digests []control.Digest) (missing []control.Digest, err error) {
	missing = []control.Digest{}
	var w sync.WaitGroup
	var mu sync.Mutex
	slots := make(chan struct{}, lookups)
	seen := map[control.Digest]bool{}
	for _, d := range digests {
		if seen[d] || !d.Valid() {
			continue
		}
		seen[d] = true
		slots <- struct{}{}
		w.Go(func() {
			defer func() { <-slots }()
			has, e := s.Control.Chunks.Has(ctx, d)
			mu.Lock()
			defer mu.Unlock()
			if e != nil {
				err = e // one is enough
			} else if !has {
				missing = append(missing, d)
			}
		})
	}
	w.Wait()
	return missing, err
}

func (s *Server) keep(c *call) (any, error) {
	b, err := io.ReadAll(io.LimitReader(c.Body, control.MaxChunk+4096))
	if err != nil {
		return nil, &wedge.Error{Op: "read chunk", Kind: wedge.Invalid, Err: err}
	}
	d := control.Digest(c.PathValue("digest"))
	if err := control.CheckPacked(d, b); err != nil {
		return nil, err
	}
	// What is there stays as it is: its size may have been counted.
	has, err := s.Control.Chunks.Has(c.Context(), d)
	if err == nil && has {
		if there, err := s.Control.Chunks.Get(c.Context(), d); err == nil && control.CheckPacked(d, there) == nil {
			s.uploads.note(c.Tenant, d, int64(len(there)))
			return struct{}{}, nil
		}
	}
	if err := s.Control.Chunks.Put(c.Context(), d, b); err != nil {
		return nil, err
	}
	s.uploads.note(c.Tenant, d, int64(len(b)))
	return struct{}{}, nil
}

// sizes returns how large the chunks of an artifact are, compressed. One that is not there is an error.
func (s *Server) sizes(c *call, a *control.Artifact) (list []int64, err error) {
	digests := a.Digests()
	known, foreign := s.known(c, digests)
	missing, err := s.notThere(c.Context(), known)
	if err != nil {
		return nil, err
	}
	if missing = append(missing, foreign...); len(missing) > 0 {
		return nil, &wedge.Error{Op: "make version", What: c.PathValue("name"), Kind: wedge.Conflict, Err: fmt.Errorf("chunk %s is not here", missing[0]), Hint: "Upload what POST /v1/chunks/missing names, and ask again."}
	}
	var own map[control.Digest]int64
	s.Control.See(func(st *control.State) { own = st.ChunksOf(cmp.Or(c.Tenant, st.TenantOf(c.PathValue("name")))) })
	for _, d := range digests {
		size, ok := own[d]
		if !ok {
			size, ok = s.uploads.size(c.Tenant, d)
		}
		if !ok {
			b, err := s.Control.Chunks.Get(c.Context(), d)
			if err != nil {
				return nil, err
			}
			size = int64(len(b))
		}
		list = append(list, size)
	}
	return list, nil
}

// hosts reads which hosts a version answers for. One is read at a time.
func (s *Server) hosts(c *call, a *control.Artifact) ([]string, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	return a.Hosts(c.PathValue("name"), control.GetPacked(func(d control.Digest) ([]byte, error) { return s.Control.Chunks.Get(c.Context(), d) }))
}

// brought is which chunks were uploaded of late, by tenants, and how large each is where it lies. A core that was started since does not know:
// who uploads is asked to do it again.
type brought struct {
	mu   sync.Mutex
	seen map[string]map[control.Digest]int64
}

// maxUploads bounds what is remembered of a tenant. At the bound all of it is forgotten.
const maxUploads = 100_000

func (u *brought) note(tenant string, d control.Digest, size int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.seen == nil {
		u.seen = map[string]map[control.Digest]int64{}
	}
	if u.seen[tenant] == nil || len(u.seen[tenant]) >= maxUploads {
		u.seen[tenant] = map[control.Digest]int64{}
	}
	u.seen[tenant][d] = size
}

func (u *brought) size(tenant string, d control.Digest) (n int64, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	n, ok = u.seen[tenant][d]
	return n, ok
}
