package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state"
)

// awayKV is what guests reach stores through by the calls of the guest ABI: stores that this PoP may not hold are asked at one that may,
// by the state API.
type awayKV struct {
	*state.Stores
	api http.Handler
	now func() time.Time
}

// ask asks for a key or a store. The error is of the kind that the other PoP says.
func (k *awayKV) ask(ctx context.Context, method, path string, h http.Header, body []byte) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+stateName+internalSuffix+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	for name, values := range h {
		req.Header[name] = values
	}
	resp, err := inProcess(req, k.api, func() {}, 0, k.now)
	if err != nil {
		return nil, nil, &wedge.Error{Op: "use state", What: path, Kind: wedge.Unavailable, Err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, wedge.MaxKVValue+1))
	if err != nil {
		return nil, nil, &wedge.Error{Op: "use state", What: path, Kind: wedge.Unavailable, Err: err}
	}
	if resp.StatusCode/100 == 2 {
		return resp, b, nil
	}
	var fault struct{ Kind, Error, Hint string }
	if json.Unmarshal(b, &fault) != nil || fault.Error == "" {
		return nil, nil, &wedge.Error{Op: "use state", What: path, Kind: wedge.Unavailable, Err: fmt.Errorf("status %d", resp.StatusCode)}
	}
	return nil, nil, &wedge.Error{Op: "use state", What: path, Kind: wedge.KindNamed(fault.Kind), Err: errors.New(fault.Error), Hint: fault.Hint}
}

func keyPath(store, key string) string {
	return (&url.URL{Path: "/" + store + "/" + key}).EscapedPath()
}

// Get implements compute.KV.
func (k *awayKV) Get(ctx context.Context, store, key string) (v wedge.KVValue, err error) {
	if _, away := k.Away(store); !away {
		return k.Stores.Get(ctx, store, key)
	}
	resp, b, err := k.ask(ctx, http.MethodGet, keyPath(store, key), nil, nil)
	if err != nil {
		return v, err
	}
	v.Value, v.Metadata = b, resp.Header.Get(fieldMetadata)
	if v.Generation, err = strconv.ParseUint(strings.Trim(resp.Header.Get("Etag"), `"`), 10, 64); err != nil {
		return v, &wedge.Error{Op: "use state", What: store, Kind: wedge.Internal, Err: err}
	}
	if ttl, err := strconv.ParseFloat(resp.Header.Get(fieldTTL), 64); err == nil && ttl >= 0 && ttl < maxSeconds {
		v.Expires = k.now().Add(time.Duration(ttl * float64(time.Second)))
	}
	return v, nil
}

// Put implements compute.KV.
func (k *awayKV) Put(ctx context.Context, store string, put wedge.KVPut) (uint64, error) {
	if _, away := k.Away(store); !away {
		return k.Stores.Put(ctx, store, put)
	}
	h := http.Header{}
	if put.Metadata != nil {
		h.Set(fieldMetadata, *put.Metadata)
	}
	if put.TTL > 0 {
		h.Set(fieldTTL, fmt.Sprintf("%.3f", put.TTL.Seconds()))
	}
	if put.IfGeneration != nil {
		h.Set("If-Match", `"`+strconv.FormatUint(*put.IfGeneration, 10)+`"`)
	}
	if put.Mode != wedge.KVOverwrite {
		h.Set(fieldMode, modeNames[put.Mode])
	}
	resp, _, err := k.ask(ctx, http.MethodPut, keyPath(store, put.Key), h, put.Value)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.Trim(resp.Header.Get("Etag"), `"`), 10, 64)
}

// Delete implements compute.KV.
func (k *awayKV) Delete(ctx context.Context, store, key string) error {
	if _, away := k.Away(store); !away {
		return k.Stores.Delete(ctx, store, key)
	}
	_, _, err := k.ask(ctx, http.MethodDelete, keyPath(store, key), nil, nil)
	return err
}

// List implements compute.KV.
func (k *awayKV) List(ctx context.Context, store string, list wedge.KVList) (keys []string, more bool, err error) {
	if _, away := k.Away(store); !away {
		return k.Stores.List(ctx, store, list)
	}
	q := url.Values{"prefix": {list.Prefix}, "after": {list.After}}
	if list.Limit > 0 {
		q.Set("limit", strconv.Itoa(min(list.Limit, state.MaxList)))
	}
	_, b, err := k.ask(ctx, http.MethodGet, keyPath(store, "")+"?"+q.Encode(), nil, nil)
	if err != nil {
		return nil, false, err
	}
	var page struct {
		Keys []string `json:"keys"`
		More bool     `json:"more"`
	}
	err = json.Unmarshal(b, &page)
	return page.Keys, page.More, err
}
