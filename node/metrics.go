package node

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/backend"
	"github.com/wedge-cloud/wedge/cache"
	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/front"
	"github.com/wedge-cloud/wedge/state"
)

// metric gives a part's counter its name for Prometheus. Labels are from bounded sets only, never a host, a
// path, a key or a client.
type metric struct {
	name, help string
	label      string // "" for most
	value      float64
	labelValue string
	gauge      bool // it goes down, too
}

// reading is what the parts' counters say at one moment.
type reading struct {
	front   front.Stats
	backend backend.Stats
	compute *compute.Stats
	cache   *cache.Stats
	dns     *dnsAnswers // nil: the node answers none
	peers   *peers      // nil: the node has none
	claims  *claims     // nil: as well
	homes   *homes      // nil: as well
	collect *collecting // nil: the node is alone
	shares  []*state.Share
	link    func() (in, out uint64)

	sessions *sessions
	rating   *rating
	shadows  *shadowStats
	rings    *rings // nil: the node is alone

	cacheBytes, cacheObjects, diskBytes, diskObjects int64
}

func (n *Node) read() *reading {
	r := &reading{front: n.front.Stats(), backend: n.fetch.Stats(), compute: n.engine.Stats(), cache: n.cache.Stats(), dns: n.dns, sessions: n.sessions, rating: n.rating, shadows: &n.shadowStats}
	if n.fleet != nil {
		r.peers, r.claims, r.homes, r.collect, r.rings, r.shares, r.link = n.fleet.peers, n.fleet.claims, n.fleet.homes, n.fleet.collect, n.fleet.rings, n.fleet.shares, n.fleet.link.Traffic
	}
	bytes, objects := n.cache.Used()
	r.cacheBytes, r.cacheObjects = bytes, int64(objects)
	bytes, objects = n.cache.DiskUsed()
	r.diskBytes, r.diskObjects = bytes, int64(objects)
	return r
}

// metrics names everything that is read.
func (r *reading) metrics() []metric {
	c, g := counter, gauge
	f, b, w, h := &r.front, &r.backend, r.compute, r.cache
	all := []metric{
		c("front_connections_total", "Connections accepted.", f.Accepted),
		g("front_connections_open", "Connections now.", f.OpenConnections),
		c("front_connections_refused_total", "Connections over the limit.", f.RefusedConnections),
		c("front_handshakes_failed_total", "TLS handshakes that failed.", f.FailedHandshakes),
		c("front_requests_total", "Requests, those that were refused included.", f.Requests),
		c("front_hits_total", "Of these, those that were answered without net/http.", f.Hits),
		g("front_requests_in_flight", "Requests now, with connections that were taken over.", f.InFlight),
		c("front_requests_refused_total", "Requests that the node itself answered with an error.", f.Refused),
		c("front_requests_overload_total", "Of these, those over the limit of requests at once.", f.Overload),
		c("front_panics_total", "Panics of handlers: each is a bug.", f.Panics),

		c("compute_runs_total", "Guests started.", w.Runs.Load()),
		c("compute_traps_total", "Guests that trapped.", w.Traps.Load()),
		c("compute_overtime_total", "Guests ended for using too much CPU time.", w.OverTime.Load()),
		c("compute_refused_total", "Guests not started for lack of a free sandbox.", w.Refused.Load()),
		g("compute_sandboxes_running", "Sandboxes now.", w.Running.Load()),
		c("compute_instances_created_total", "Instances made.", w.Created.Load()),
		c("compute_instances_discarded_total", "Instances given up.", w.Discarded.Load()),
		c("compute_modules_compiled_total", "Modules compiled, or loaded compiled.", w.Compiled.Load()),
		c("compute_snapshots_total", "Guests begun from a snapshot.", w.Snapshots.Load()),
		c("compute_packed_total", "Times that a waiting guest's memory was packed.", w.Packed.Load()),

		c("cache_hits_total", "Requests answered from what is stored and fresh.", h.Hits.Load()),
		c("cache_misses_total", "Requests that a fetch answered.", h.Misses.Load()),
		c("cache_stale_total", "Requests answered with what is stale.", h.Stale.Load()),
		c("cache_passes_total", "Requests that are not for the cache.", h.Passes.Load()),
		c("cache_collapsed_total", "Requests that shared another's fetch.", h.Collapsed.Load()),
		c("cache_fetches_total", "Fetches that the cache made.", h.Fetches.Load()),
		c("cache_evicted_total", "Objects that went for lack of room in memory.", h.Evicted.Load()),
		c("cache_purges_total", "Purges.", h.Purges.Load()),
		g("cache_memory_bytes", "Bytes of objects in memory.", r.cacheBytes),
		g("cache_memory_objects", "Objects in memory.", r.cacheObjects),
		g("cache_disk_bytes", "Bytes on disk.", r.diskBytes),
		g("cache_disk_objects", "Objects on disk.", r.diskObjects),
		c("cache_disk_hits_total", "Objects read back from disk.", h.DiskHits.Load()),
		c("cache_disk_writes_total", "Objects written to disk.", h.DiskWrites.Load()),
		c("cache_disk_evicted_total", "Objects that went for lack of room on disk.", h.DiskEvicted.Load()),
		c("cache_disk_dropped_total", "Objects not written, for there was too much to write.", h.DiskDropped.Load()),
		c("cache_disk_errors_total", "Files of the disk tier that failed or were damaged: the alarm.", h.DiskErrors.Load()),

		c("backend_requests_total", "Requests to backends.", int64(b.Requests)),
		c("backend_dials_total", "Connections tried.", int64(b.Dials)),
		c("backend_reused_total", "Attempts on a connection that had served before.", int64(b.Reused)),
		c("backend_retries_total", "Attempts after the first.", int64(b.Retries)),
		c("backend_poisoned_total", "Connections dropped for what nobody had asked for.", int64(b.Poisoned)),
		c("backend_probes_total", "Health checks made.", int64(b.Probes)),
		g("backend_connections_open", "Connections now.", int64(b.Open)),
		g("backend_connections_idle", "Of these, those without a request.", int64(b.Idle)),
		g("backend_requests_waiting", "Requests that wait for a connection.", int64(b.Waiting)),
	}
	for i, n := range f.Status {
		class := "cut"
		if i > 0 {
			class = strconv.Itoa(i) + "xx"
		}
		m := c("front_responses_total", "Responses by class of status; cut: there was none.", n)
		m.label, m.labelValue = "class", class
		all = append(all, m)
	}
	failures := map[string]uint64{}
	for i, n := range b.Failures {
		failures[proxyError(wedge.FetchFailure(i))] += n
	}
	for why, n := range failures {
		m := c("backend_failures_total", "Requests that failed before there was a response, by the error type of RFC 9209.", int64(n))
		m.label, m.labelValue = "error", why
		all = append(all, m)
	}
	if r.dns != nil {
		all = append(all, r.dns.metrics()...)
	}
	if r.peers != nil {
		all = append(all, r.peers.metrics()...)
	}
	if r.claims != nil {
		all = append(all, r.claims.metrics()...)
		all = append(all, r.homes.metrics()...)
	}
	if r.collect != nil {
		all = append(all, r.collect.metrics()...)
		all = append(all, r.collect.sinks.metrics()...)
	}
	if r.link != nil {
		in, out := r.link()
		all = append(all, c("bus_received_bytes_total", "Bytes of messages that came by the link to the core.", int64(in)),
			c("bus_sent_bytes_total", "Bytes of messages that went by it.", int64(out)))
	}
	for _, s := range r.shares {
		all = append(all, shareMetrics(s, time.Now())...)
	}
	if r.rings != nil {
		all = append(all, g("secrets_epoch", "Epoch of the newest key for secrets; -1: this PoP has none, and runs nothing that has secrets.", int64(r.rings.now.Load().Epoch())))
	}
	all = append(all,
		c("shadow_requests_total", "Requests that were put to a candidate, too.", r.shadows.taken.Load()),
		c("shadow_left_out_total", "Requests that were to be, and were left out: too many at once, a long body, or what they did cannot be repeated.", r.shadows.dropped.Load()))
	return append(append(all, r.rating.metrics()...), r.sessions.metrics()...)
}

func counter(name, help string, value int64) metric {
	return metric{name: "wedge_" + name, help: help, value: float64(value)}
}

func gauge(name, help string, value int64) metric {
	m := counter(name, help, value)
	m.gauge = true
	return m
}

// collector reads metrics for Prometheus.
type collector func() []metric

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, m := range c() {
		kind := prometheus.CounterValue
		if m.gauge {
			kind = prometheus.GaugeValue
		}
		var names, values []string
		if m.label != "" {
			names, values = []string{m.label}, []string{m.labelValue}
		}
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(m.name, m.help, names, nil), kind, m.value, values...)
	}
}

// registry has these metrics, and the process's own.
func (c collector) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
