package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/bus"
	"github.com/wedge-cloud/wedge/collect"
)

// aggregator adds up what the PoPs have collected. Each of a core's servers has one, and each tells the others what it has. What is in its
// file is all up to an entry of the log, so after a crash it reads from there on, and counts nothing twice.
type aggregator struct {
	name, file string
	log        *slog.Logger
	link       *bus.Link

	mu      sync.Mutex
	results *collect.Results
	saved   uint64
	said    map[collect.CheckKey]saidCheck
	differ  map[differing]collect.Disagreement
}

// differing names a disagreement: with whom, and about what. It is heard more than once.
type differing struct {
	collect.CheckKey
	with string
}

// saidCheck is what was said last of a minute, and how often.
type saidCheck struct {
	check collect.Check
	times int
}

const (
	aggregateEvery = 2 * time.Second
	checkFor       = time.Hour
	checkRepeat    = 3 // times that something is said: whoever is behind may hear it later
	checkBatch     = 500
	checkSubject   = "collected."

	maxDiffering   = 1000 // disagreements that are kept; it says so in the log of each
	differingShown = 5
)

func openAggregator(name, dir string, link *bus.Link, log *slog.Logger) (*aggregator, error) {
	a := &aggregator{name: name, file: filepath.Join(dir, "collected"), link: link, log: log, results: collect.NewResults(), said: map[collect.CheckKey]saidCheck{}, differ: map[differing]collect.Disagreement{}}
	b, err := os.ReadFile(a.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return a, nil
	case err == nil:
		a.results, err = collect.DecodeResults(b)
	}
	if err != nil {
		return nil, &wedge.Error{Op: "read what was collected", What: a.file, Kind: wedge.Unavailable, Err: err, Hint: "Without the file the core begins anew, with what its log has of the last three days."}
	}
	a.saved = a.results.Seq
	return a, nil
}

// run follows the log until ctx ends.
func (a *aggregator) run(ctx context.Context) error {
	stop, err := a.link.Hear(checkSubject+"*", a.compare)
	if err != nil {
		return err
	}
	defer stop()
	if stop, err = a.link.Answer(extractSubject+"*", a.extract); err != nil {
		return err
	}
	defer stop()
	var w sync.WaitGroup
	defer w.Wait()
	w.Go(func() { a.tend(ctx) })
	return a.link.Follow(ctx, collectLog, a.results.Seq+1, bus.Follower{Entry: a.take, Lost: a.lost})
}

func (a *aggregator) take(e wedge.Entry) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.results.Take(e.Seq, e.Writer, e.First, e.Items)
	return nil
}

func (a *aggregator) lost(next uint64) error {
	a.log.Error("some of what the PoPs have collected is gone from the log before it was added up", "from", a.results.Seq+1, "to", next-1)
	return nil
}

// tend writes the results down now and then, and at the end, and tells the others what is in them.
func (a *aggregator) tend(ctx context.Context) {
	t := time.NewTicker(aggregateEvery)
	defer t.Stop()
	due := time.Now()
	for ctx.Err() == nil {
		select {
		case <-t.C:
			a.tell()
		case <-ctx.Done():
		}
		began := time.Now()
		if ctx.Err() == nil && began.Before(due) {
			continue
		}
		if err := a.save(); err != nil {
			a.log.Error("write down what was collected", "file", a.file, "err", err)
		}
		due = began.Add(saveAfter(time.Since(began)))
	}
}

// saveAfter is how long what was saved will do: the longer a save takes, the rarer they are, so that they take a hundredth of the time. What has
// come since then the log has.
func saveAfter(took time.Duration) time.Duration {
	return min(max(100*took, aggregateEvery), time.Minute)
}

// save writes the file anew, unless nothing has come.
func (a *aggregator) save() error {
	a.mu.Lock()
	seq := a.results.Seq
	if seq == a.saved {
		a.mu.Unlock()
		return nil
	}
	b := a.results.Encode()
	a.mu.Unlock()
	if err := writeSynced(a.file, b); err != nil {
		return err
	}
	a.saved = seq // only tend gets here
	return nil
}

// writeSynced replaces a file: it has the old content or the new.
func writeSynced(file string, b []byte) error {
	f, err := os.OpenFile(file+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// wireCheck is a check on the bus.
type wireCheck struct {
	collect.CheckKey
	collect.Check
}

// tell says what there is of minutes that are over.
func (a *aggregator) tell() {
	now := time.Now()
	a.mu.Lock()
	var list []wireCheck
	all := a.results.Checks(now.Add(-checkFor))
	for k, c := range all {
		s := a.said[k]
		if s.check != c {
			s = saidCheck{check: c}
		}
		if s.times < checkRepeat && k.Minute+60 <= now.Unix() {
			s.times++
			list = append(list, wireCheck{k, c})
		}
		a.said[k] = s
	}
	for k := range a.said {
		if _, ok := all[k]; !ok {
			delete(a.said, k)
		}
	}
	a.mu.Unlock()
	for len(list) > 0 {
		n := min(len(list), checkBatch)
		if b, err := json.Marshal(list[:n]); err == nil {
			_ = a.link.Say(checkSubject+a.name, b) // the next one comes soon
		}
		list = list[n:]
	}
}

// compare hears what another has. Of the same items it must be the same.
func (a *aggregator) compare(subject string, data []byte) {
	other := strings.TrimPrefix(subject, checkSubject)
	var list []wireCheck
	if other == a.name || json.Unmarshal(data, &list) != nil {
		return
	}
	a.mu.Lock()
	all := a.results.Checks(time.Time{})
	a.mu.Unlock()
	for _, o := range list {
		mine, ok := all[o.CheckKey]
		if !ok || mine.First != o.First || mine.Last != o.Last || mine == o.Check {
			continue
		}
		d := collect.Disagreement{Minute: time.Unix(o.Minute, 0).UTC(), With: other, Events: mine.Events, There: o.Events}
		d.PoP, _, _ = strings.Cut(o.Writer, ".")
		if !a.differs(differing{o.CheckKey, other}, d) {
			continue
		}
		a.log.Error("two of the core's servers disagree about what a PoP has collected", "other", other, "service", o.Service, "name", o.Name,
			"window", d.Minute.Format(time.RFC3339), "pop", d.PoP, "events", d.Events, "there", d.There)
	}
}

// differs notes a disagreement; false: it was known.
func (a *aggregator) differs(k differing, d collect.Disagreement) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known, ok := a.differ[k]; ok && known == d {
		return false
	}
	if len(a.differ) < maxDiffering {
		a.differ[k] = d
	}
	return true
}

// disagreements says in an answer what is known of them.
func (a *aggregator) disagreements(q *collect.Query, answer *collect.Answer) {
	for k, d := range a.differ {
		if k.Service == q.Service && k.Name == q.Name && k.Minute+60 > q.From.Unix() && k.Minute <= q.To.Unix() {
			answer.Disagreement = append(answer.Disagreement, d)
		}
	}
	answer.Disagreed = len(answer.Disagreement)
	slices.SortFunc(answer.Disagreement, func(a, b collect.Disagreement) int {
		return cmp.Or(b.Minute.Compare(a.Minute), cmp.Compare(a.PoP, b.PoP), cmp.Compare(a.With, b.With))
	})
	answer.Disagreement = answer.Disagreement[:min(differingShown, answer.Disagreed)]
}

// ask answers a query about what was collected.
func (a *aggregator) ask(q collect.Query) collect.Answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	answer := a.results.Ask(q)
	a.disagreements(&q, &answer)
	return answer
}
