package bus

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/wedge-cloud/wedge"
)

// A Shelf is kept by the core, as logs are: things that never change lie there, each under a key that is one word.
type Shelf struct {
	Name string // upper case
}

func (s *Shelf) subject(key string) string { return "shelf." + s.Name + "." + key }

// KeepShelf has the core keep a shelf, as so many servers' copies. If it is there already that is fine.
func (l *Link) KeepShelf(ctx context.Context, s *Shelf, copies int) error {
	return l.keep(ctx, jetstream.StreamConfig{
		Name: s.Name, Subjects: []string{s.subject("*")}, Storage: jetstream.FileStorage, Replicas: copies,
		MaxMsgsPerSubject: 1, Discard: jetstream.DiscardOld, AllowDirect: true, MaxBytes: -1,
	})
}

// Put lays something on a shelf; when it returns it is on disk.
func (l *Link) Put(ctx context.Context, s *Shelf, key string, b []byte) error {
	m := nats.NewMsg(s.subject(key))
	m.Data = b
	m.Header.Set(jetstream.ExpectedStreamHeader, s.Name)
	var ack struct {
		Error *apiError `json:"error"`
	}
	if err := l.ask(ctx, m, &ack); err != nil {
		return unavailable("put", s.Name, err)
	}
	if ack.Error != nil {
		return ack.Error.as("put", s.Name)
	}
	return nil
}

// Get returns what lies on a shelf. The error is of kind NotExist if there is nothing.
func (l *Link) Get(ctx context.Context, s *Shelf, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	question, err := json.Marshal(map[string]string{"last_by_subj": s.subject(key)})
	if err != nil {
		return nil, err
	}
	m, err := l.nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+s.Name, question)
	if err != nil {
		return nil, unavailable("get", s.Name, err)
	}
	if m.Header.Get("Status") == "" {
		return m.Data, nil
	}
	return l.getLast(ctx, s, key) // whoever answered may lag behind
}

// getLast asks the server that decides.
func (l *Link) getLast(ctx context.Context, s *Shelf, key string) ([]byte, error) {
	got, err := l.last(ctx, s.Name, s.subject(key))
	if err != nil {
		return nil, err
	}
	if got.Seq == 0 {
		return nil, &wedge.Error{Op: "get", What: key, Kind: wedge.NotExist, Err: errors.New("it is not on the shelf " + s.Name)}
	}
	return got.Data, nil
}

// Has reports whether there is something on a shelf.
func (l *Link) Has(ctx context.Context, s *Shelf, key string) (bool, error) {
	var info struct {
		State struct {
			Subjects map[string]uint64 `json:"subjects"`
		} `json:"state"`
		Error *apiError `json:"error"`
	}
	if err := l.askAPI(ctx, "STREAM.INFO."+s.Name, map[string]string{"subjects_filter": s.subject(key)}, &info); err != nil {
		return false, unavailable("look", s.Name, err)
	}
	if info.Error != nil {
		return false, info.Error.as("look", s.Name)
	}
	return len(info.State.Subjects) > 0, nil
}

// Drop takes something off a shelf.
func (l *Link) Drop(ctx context.Context, s *Shelf, key string) error {
	var answer struct {
		Error *apiError `json:"error"`
	}
	if err := l.askAPI(ctx, "STREAM.PURGE."+s.Name, map[string]string{"filter": s.subject(key)}, &answer); err != nil {
		return unavailable("drop", s.Name, err)
	}
	if answer.Error != nil {
		return answer.Error.as("drop", s.Name)
	}
	return nil
}

// Keys calls each with the key of everything on a shelf.
func (l *Link) Keys(ctx context.Context, s *Shelf, each func(key string)) error {
	for offset := 0; ; {
		var info struct {
			Total int `json:"total"`
			State struct {
				Subjects map[string]uint64 `json:"subjects"`
			} `json:"state"`
			Error *apiError `json:"error"`
		}
		if err := l.askAPI(ctx, "STREAM.INFO."+s.Name, map[string]any{"subjects_filter": s.subject("*"), "offset": offset}, &info); err != nil {
			return unavailable("look", s.Name, err)
		}
		if info.Error != nil {
			return info.Error.as("look", s.Name)
		}
		for subject := range info.State.Subjects {
			each(subject[len(s.subject("")):])
		}
		if offset += len(info.State.Subjects); offset >= info.Total || len(info.State.Subjects) == 0 {
			return nil
		}
	}
}
