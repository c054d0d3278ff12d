package wedge

// Event says what a message means to the cache: something elsewhere has changed, and what was made of it is not to be served any
// more. A message is a JSON document that comes to Path, or over the bus.
type Event struct {
	Path   string   // of the service's hosts, for POST; "": only over the bus
	Secret Secret   // signs what comes to Path; empty: one of the service's api_keys is sent along
	Header string   // that the signature is in
	Keys   []string // surrogate keys, with fields of the message in braces, such as "product-{id}"
	Soft   bool     // objects become stale instead of unusable
}
