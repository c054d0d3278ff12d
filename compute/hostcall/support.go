package hostcall

import (
	"github.com/wedge-cloud/wedge/abi"
)

// Support says how much of a hostcall there is.
type Support string

const (
	Complete    Support = "complete"    // as the ABI describes it
	Partial     Support = "partial"     // it works, and not for all that the ABI describes
	Unsupported Support = "unsupported" // it answers status 5
)

// Supported says how much of a hostcall there is; and why no more, in a line, if it is not complete.
func Supported(d *abi.Def) (s Support, why string) {
	if d == nil {
		return Unsupported, "the ABI has no such call"
	}
	why = reasons[d.String()]
	switch {
	case modules[d.Module][d.Name] == nil:
		return Unsupported, why
	case why != "":
		return Partial, why
	}
	return Complete, ""
}

// lacks says why calls are partial or unsupported. Calls of metadata stand for both of their forms: those of fastly_http_req,
// and those of fastly_http_downstream.
var lacks = []struct {
	why   string
	calls []string
}{
	{"always no: nothing here looks for attacks", metadata("client_ddos_detected")},
	{"always none: nothing here makes such a fingerprint", metadata("client_oh_fingerprint")},
	{"always the region none", metadata("compliance_region")},
	{"always no: nothing here looks for bots", metadata("bot_analyzed", "bot_detected")},
	{"always none: nothing here looks for bots", metadata("bot_name", "bot_category", "bot_category_kind", "bot_verified")},
	{"always none: there are no data about such addresses", metadata("resvpnproxy_is_anonymous", "resvpnproxy_is_anonymous_vpn",
		"resvpnproxy_is_hosting_provider", "resvpnproxy_is_proxy_over_vpn", "resvpnproxy_is_public_proxy", "resvpnproxy_is_relay_proxy",
		"resvpnproxy_is_residential_proxy", "resvpnproxy_is_smart_dns_proxy", "resvpnproxy_is_tor_exit_node", "resvpnproxy_is_vpn_datacenter",
		"resvpnproxy_vpn_service_name")},
	{"counts visits to guests in a fleet; a CDN service does not say in CDN-Loop at which PoP it is", metadata("visits_this_pop")},

	{"clients that speak HTTP/2 get 501", []string{"fastly_http_req.upgrade_websocket", "fastly_http_req.redirect_to_websocket_proxy", "fastly_http_req.redirect_to_websocket_proxy_v2"}},
	{"there is no GRIP proxy", []string{"fastly_http_req.redirect_to_grip_proxy", "fastly_http_req.redirect_to_grip_proxy_v2"}},
	{"always the verdict allow: there is no web application firewall", []string{"fastly_http_req.inspect"}},
	{"no service may act for another", []string{"fastly_http_req.on_behalf_of"}},
	{"knows the sites of the version and the PoPs of the fleet; a cache key for a backend makes another name only", []string{"fastly_shielding.shield_info", "fastly_shielding.backend_for_shield"}},

	{"makes no JPEG XL or video, and does not cache what it makes", []string{"fastly_image_optimizer.transform_image_optimizer_request"}},
	{"knows what the version's tables and its database say: no data come with Wedge", []string{"fastly_geo.lookup"}},
	{"knows what the version's table says, and what public expressions read from a User-Agent", []string{"fastly_device_detection.lookup"}},
}

// metadata names the calls about a downstream request in both modules that have them.
func metadata(names ...string) (calls []string) {
	for _, module := range []string{"fastly_http_req", "fastly_http_downstream"} {
		for _, name := range names {
			if d := abi.Lookup(module, "downstream_"+name); d != nil {
				calls = append(calls, d.String())
			}
		}
	}
	return calls
}

// reasons is lacks by call.
var reasons = func() map[string]string {
	m := map[string]string{}
	for _, l := range lacks {
		for _, call := range l.calls {
			m[call] = l.why
		}
	}
	return m
}()
