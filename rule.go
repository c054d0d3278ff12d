package wedge

import "time"

// Rule says what is special about some requests to a service without a guest. Every rule that
// matches applies, in their order; of two that say the same thing the later one wins.
type Rule struct {
	Path    string   // "*" stands for any text, slashes too; "": any path
	Hosts   []string // "*.example.com" stands for every name below; empty: any host
	Methods []string // empty: any

	Redirect string  // answer with a redirect there; "$path" and "$query" stand for the request's
	Status   int     // of the redirect
	Backends []Share // where the response comes from

	Pass     bool           // not cached
	TTL, SWR *time.Duration // instead of what a response below 400 says
	Query    *Query

	Request  HeaderEdit
	Response HeaderEdit // of those below 400
}

// Share is a backend's part of the requests. With weights of 0 the healthy backends take turns; with
// others clients are divided between them, and each one stays with its backend.
type Share struct {
	Backend string
	Percent int // 0 to 100
}

// Query says which parameters of a URL count: those are what the origin and the cache's key see.
type Query struct {
	Keep []string // their names, which end up in order; empty: none
}

// HeaderEdit changes the fields of a message: first what is removed, then what is set.
type HeaderEdit struct {
	Remove []string
	Set    map[string]string
}
