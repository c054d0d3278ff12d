package wedge

import "time"

// Limits are the hard ceilings of one sandbox. The zero value of a field means its
// default; [Limits.WithDefaults] fills them in. Reaching a limit ends the sandbox (CPU, Wall,
// Hostcalls), fails the guest's request to grow (Memory) or the hostcall (the others, status
// limitexceeded).
type Limits struct {
	CPU              time.Duration // time inside the guest, waiting in hostcalls left out
	Wall             time.Duration // from first to last instruction
	Memory           uint64        // bytes of linear memory, rounded down to 64 KiB pages
	Fetches          int           // backend requests
	DynamicBackends  int           // backends registered at run time
	HostcallBytes    uint64        // bytes buffered on the host side for this sandbox at any moment
	Hostcalls        uint64        // number of hostcalls
	HeaderBytes      int           // bytes of header section, each message; of a client's the front's bound holds, too
	HeaderLines      int           // lines of header section, each message; likewise
	URIBytes         int           // bytes of a request's target, path and query: a client's, and of those that the guest makes
	RequestsInReuse  int           // downstream requests one reusable sandbox may serve
	ReuseIdleTimeout time.Duration // how long a reusable sandbox may wait for its next request
}

// DefaultLimits are those of Fastly's default plan where it documents one.
var DefaultLimits = Limits{
	CPU:              50 * time.Millisecond,
	Wall:             2 * time.Minute,
	Memory:           128 << 20,
	Fetches:          32,
	DynamicBackends:  200,
	HostcallBytes:    128 << 20,
	Hostcalls:        1 << 20,
	HeaderBytes:      128 << 10,
	HeaderLines:      4096,
	URIBytes:         8192,
	RequestsInReuse:  100,
	ReuseIdleTimeout: 10 * time.Second,
}

// WithDefaults returns l with each zero field replaced by that of [DefaultLimits].
func (l Limits) WithDefaults() Limits {
	d := DefaultLimits
	orDefault(&l.CPU, d.CPU)
	orDefault(&l.Wall, d.Wall)
	orDefault(&l.Memory, d.Memory)
	orDefault(&l.Fetches, d.Fetches)
	orDefault(&l.DynamicBackends, d.DynamicBackends)
	orDefault(&l.HostcallBytes, d.HostcallBytes)
	orDefault(&l.Hostcalls, d.Hostcalls)
	orDefault(&l.HeaderBytes, d.HeaderBytes)
	orDefault(&l.HeaderLines, d.HeaderLines)
	orDefault(&l.URIBytes, d.URIBytes)
	orDefault(&l.RequestsInReuse, d.RequestsInReuse)
	orDefault(&l.ReuseIdleTimeout, d.ReuseIdleTimeout)
	return l
}

func orDefault[T comparable](p *T, d T) {
	var zero T
	if *p == zero {
		*p = d
	}
}
