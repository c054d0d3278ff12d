package node

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge/rate"
)

// ratesSaid is what a PoP says to all of what it counts.
type ratesSaid struct {
	Kept []rate.Kept `json:"kept,omitempty"` // keys that are half used up
}

const (
	ratesSubject  = "applied.rates." // and the PoP's name: it can say it of itself only
	ratesPause    = 500 * time.Millisecond
	maxKeptSaid   = 512       // in one message
	maxRatesBytes = 256 << 10 // of one message
)

// sayRates tells the others twice a second what is new, until ctx ends. What is lost is not said again.
func (f *fleet) sayRates(ctx context.Context) error {
	stop, err := f.link.Hear(ratesSubject+"*", f.hearRates)
	if err != nil {
		return err
	}
	defer stop()
	t := time.NewTicker(ratesPause)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
		for part := range slices.Chunk(f.rating.limiter.Kept(), maxKeptSaid) {
			if b, err := json.Marshal(ratesSaid{Kept: part}); err == nil {
				_ = f.link.Say(ratesSubject+f.cfg.PoP.Name, b)
			}
		}
	}
}

// hearRates takes what another PoP says.
func (f *fleet) hearRates(subject string, data []byte) {
	from := strings.TrimPrefix(subject, ratesSubject)
	var said ratesSaid
	if from == f.cfg.PoP.Name || len(data) > maxRatesBytes || json.Unmarshal(data, &said) != nil || len(said.Kept) > maxKeptSaid {
		return
	}
	g := f.rating
	for _, kept := range said.Kept {
		if out := g.limiter.Heard(from, kept, g.now()); out != nil {
			g.behind(out)
		}
	}
}
