package node

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/rate"
	"github.com/wedge-cloud/wedge/state"
)

// ratesSaid is what a PoP says to all of what it counts.
type ratesSaid struct {
	Kept []rate.Kept      `json:"kept,omitempty"` // keys that are half used up
	News []state.RateNews `json:"news,omitempty"` // of guests' rate counters and penalty boxes
}

const (
	ratesSubject  = "applied.rates." // and the PoP's name: it can say it of itself only
	ratesPause    = 500 * time.Millisecond
	maxRatesSaid  = 512       // of each kind in one message; of rate counters and of penalty boxes at one time
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
		f.sayRatesOnce()
	}
}

func (f *fleet) sayRatesOnce() {
	kept, news := f.rating.limiter.Kept(), f.rates.News(maxRatesSaid)
	for len(kept)+len(news) > 0 {
		n, m := min(len(kept), maxRatesSaid), min(len(news), maxRatesSaid)
		if b, err := json.Marshal(ratesSaid{kept[:n], news[:m]}); err == nil {
			_ = f.link.Say(ratesSubject+f.cfg.PoP.Name, b)
		}
		kept, news = kept[n:], news[m:]
	}
}

// hearRates takes what another PoP says.
func (f *fleet) hearRates(subject string, data []byte) {
	from := strings.TrimPrefix(subject, ratesSubject)
	var said ratesSaid
	if from == f.cfg.PoP.Name || len(data) > maxRatesBytes || json.Unmarshal(data, &said) != nil || len(said.Kept) > maxRatesSaid || len(said.News) > maxRatesSaid {
		return
	}
	g := f.rating
	for _, kept := range said.Kept {
		if out := g.limiter.Heard(from, kept, g.now()); out != nil {
			g.behind(out)
		}
	}
	for i := range said.News {
		if one := &said.News[i]; f.runs(one.Service) {
			f.rates.Hear(one)
		}
	}
}

// ratesOf returns the rate counters and penalty boxes of a service.
func (n *Node) ratesOf(service string) compute.Rates {
	if n.fleet == nil {
		return n.rates.For(service)
	}
	return &checks{n.rates.For(service), service, n.rating}
}

// runs reports whether a service runs here.
func (n *Node) runs(service string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.deployed[service] != nil
}
