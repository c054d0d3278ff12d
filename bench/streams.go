package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// streamsEach is how many requests share an HTTP/2 connection.
const streamsEach = 200

// streams sends each of the task's further requests once, when one is due.
func (t loadTask) streams(ctx context.Context, due <-chan time.Time) (sum load) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(t.Seconds*float64(time.Second)))
	defer cancel()
	var mu sync.Mutex
	var w sync.WaitGroup
	for left := t.Streams; left > 0; left -= streamsEach {
		client := &http.Client{Transport: h2c()}
		for range min(left, streamsEach) {
			w.Go(func() {
				<-due
				l := load{Requests: 1}
				if err := t.fetch(ctx, client); err != nil {
					l.Failed, l.Why = 1, err.Error()
				}
				mu.Lock()
				defer mu.Unlock()
				sum.join(l)
			})
		}
	}
	w.Wait()
	return sum
}

func h2c() *http.Transport {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	return tr
}

func (t loadTask) fetch(ctx context.Context, client *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.Addr, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && (resp.StatusCode != http.StatusOK || string(b) != t.Want) {
		err = fmt.Errorf("answered %s %q", resp.Status, b)
	}
	return err
}
