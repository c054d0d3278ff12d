package node

import (
	"testing"
)

// TestNewerPurge: a purge that says more than is understood purges more, not less.
func TestNewerPurge(t *testing.T) {
	for in, all := range map[string]bool{
		`{"id":"1","service":"shop","keys":["YQ=="],"soft":true}`:                                               false,
		`{"id":"1","service":"shop","prefix":"L2E="}`:                                                           true,
		`{"id":"1","service":"shop","keys":["YQ=="],"soft":true,"except":["Yg=="]}`:                             true,
		`{"id":"1","service":"shop","url":"aHR0cDovL2EvYg==","vary":{"lang":"de"},"at":"2026-01-01T00:00:00Z"}`: true,
	} {
		p, err := readPurge([]byte(in))
		if err != nil || p.All != all || all && (p.Soft || p.URL != "" || p.Keys != nil) {
			t.Errorf("%s: %+v %v", in, p, err)
		}
	}
	for _, in := range []string{``, `{}`, `{"id":"1","prefix":"L2E="}`, `{"id":"1","service":"shop"}`, `{"service":"shop","all":true}`, `{"id":"1","service":"shop","url":"L2E="}`} {
		if p, err := readPurge([]byte(in)); err == nil {
			t.Errorf("%s: %+v", in, p)
		}
	}
}
