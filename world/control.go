package world

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Order is what a running world is told to do.
type Order struct {
	Do      string   `json:"do"`       // cut, blackhole, heal, stop, kill, start, delay, lose, bandwidth, skew
	PoPs    []string `json:"pops"`     // none: all
	DelayMS float64  `json:"delay_ms"` // delay: one way
	Share   float64  `json:"share"`    // lose: of what is sent
	Way     string   `json:"way"`      // blackhole: out or in, as the PoP sees it; "": both
	Rate    float64  `json:"rate"`     // bandwidth: bytes a second each way; 0: no bound
	SkewMS  float64  `json:"skew_ms"`  // skew: how far the clock is ahead
}

// Carry carries an order out.
func (w *World) Carry(ctx context.Context, o Order) error {
	switch o.Do {
	case "cut":
		return w.Cut(o.PoPs...)
	case "blackhole":
		on, err := wayNamed(o.Way)
		if err != nil {
			return err
		}
		return w.Blackhole(on, o.PoPs...)
	case "heal":
		return w.Heal(o.PoPs...)
	case "stop":
		return w.Stop(o.PoPs...)
	case "kill":
		return w.Kill(o.PoPs...)
	case "start":
		return w.Start(ctx, o.PoPs...)
	case "delay":
		if o.DelayMS < 0 || o.DelayMS > 60_000 {
			return &wedge.Error{Op: "delay", What: strconv.FormatFloat(o.DelayMS, 'g', -1, 64), Kind: wedge.Invalid, Hint: "Give milliseconds from 0 to 60000."}
		}
		return w.Delay(time.Duration(o.DelayMS*float64(time.Millisecond)), o.PoPs...)
	case "lose":
		if o.Share < 0 || o.Share > 1 {
			return &wedge.Error{Op: "lose", What: strconv.FormatFloat(o.Share, 'g', -1, 64), Kind: wedge.Invalid, Hint: "Give a share from 0 to 1."}
		}
		return w.Lose(o.Share, o.PoPs...)
	case "bandwidth":
		if o.Rate != 0 && (o.Rate < minRate || o.Rate > maxRate) {
			return &wedge.Error{Op: "bandwidth", What: strconv.FormatFloat(o.Rate, 'g', -1, 64), Kind: wedge.Invalid, Hint: "Give bytes a second from 1000 to 1e12, or 0 for no bound."}
		}
		return w.Bandwidth(o.Rate, o.PoPs...)
	case "skew":
		if math.Abs(o.SkewMS) > maxSkew {
			return &wedge.Error{Op: "skew", What: strconv.FormatFloat(o.SkewMS, 'g', -1, 64), Kind: wedge.Invalid, Hint: "Clocks can be a year apart at most."}
		}
		return w.Skew(time.Duration(o.SkewMS*float64(time.Millisecond)), o.PoPs...)
	}
	return &wedge.Error{Op: "carry out order", What: o.Do, Kind: wedge.Invalid, Err: errors.New("no such order"), Hint: "There are cut, blackhole, heal, stop, kill, start, delay, lose, bandwidth and skew."}
}

const (
	minRate = 1e3  // bytes a second
	maxRate = 1e12 // bytes a second
	maxSkew = 365 * 24 * 3600 * 1e3
)

// wayNamed reads a way; "" is both.
func wayNamed(name string) ([]Way, error) {
	switch name {
	case "":
		return nil, nil
	case "out":
		return []Way{Out}, nil
	case "in":
		return []Way{In}, nil
	}
	return nil, &wedge.Error{Op: "blackhole", What: name, Kind: wedge.Invalid, Err: errors.New("no such way"), Hint: "There are out, from the PoP, and in, to it."}
}

// ServeHTTP lets another process on this machine give orders: GET answers with how all PoPs are, POST takes an
// [Order]. It asks for JSON by name, which no page in a browser can send here unasked.
func (w *World) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		answer(rw, http.StatusOK, w.Status())
	case http.MethodPost:
		var o Order
		if r.Header.Get("Content-Type") != "application/json" {
			refuse(rw, &wedge.Error{Op: "carry out order", Kind: wedge.Invalid, Err: errors.New("not JSON")})
			return
		}
		d := json.NewDecoder(http.MaxBytesReader(rw, r.Body, 64<<10))
		d.DisallowUnknownFields()
		if err := d.Decode(&o); err != nil {
			refuse(rw, &wedge.Error{Op: "carry out order", Kind: wedge.Invalid, Err: err})
			return
		}
		if err := w.Carry(r.Context(), o); err != nil {
			refuse(rw, err)
			return
		}
		if w.cfg.Ordered != nil {
			w.cfg.Ordered(o)
		}
		answer(rw, http.StatusOK, w.Status())
	default:
		rw.Header().Set("Allow", "GET, POST")
		http.Error(rw, "GET or POST", http.StatusMethodNotAllowed)
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, err error) {
	answer(w, wedge.KindOf(err).Status(), map[string]string{"kind": wedge.KindOf(err).String(), "error": err.Error(), "hint": wedge.HintOf(err)})
}
