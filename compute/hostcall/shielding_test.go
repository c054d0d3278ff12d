package hostcall

import (
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
)

func TestShielding(t *testing.T) {
	const m = "fastly_shielding"
	b := stNew(t, &wedge.Version{Service: "shop", Limits: wedge.Limits{DynamicBackends: 4}, Shields: map[string]wedge.ShieldSite{
		"home": {}, "far": {Unencrypted: "http://far.example", Encrypted: "https://far.example"}}})
	b.sb.Host.Shield = func(name string) (here, known bool) { return name == "ams1", name == "ams1" || name == "fra1" }
	o, buf := b.out4(), b.buf(256)
	for name, want := range map[string]string{
		"home": "\x01\x00\x00", "far": "\x00http://far.example\x00https://far.example\x00", "ams1": "\x01http://ams1.pop.wedge.internal\x00https://ams1.pop.wedge.internal\x00",
		"fra1": "\x00http://fra1.pop.wedge.internal\x00https://fra1.pop.wedge.internal\x00",
	} {
		b.want(abi.OK, m, "shield_info", name, buf, o)
		if got := b.text(buf, o); got != want {
			t.Errorf("%s: %q", name, got)
		}
		b.want(abi.BufLen, m, "shield_info", name, b.buf(2), o)
		if b.u32(o) != uint32(len(want)) {
			t.Errorf("%s: needed length %d", name, b.u32(o))
		}
	}
	for _, name := range []string{"", "nyc1", "\xff", strings.Repeat("x", maxShieldName+1)} {
		b.want(abi.Inval, m, "shield_info", name, buf, o)
		b.want(abi.Inval, m, "backend_for_shield", name, 0, 0, buf, o)
	}
	b.want(abi.Inval, m, "backend_for_shield", "home", 0, 0, buf, o) // it has no address
	for _, text := range []string{"https://nyc1.pop.wedge.internal", "https://fra1.pop.wedge.internal/path", "https://fra1.pop.wedge.internal:1", "https://origin.example", "http://far.example/", "://"} {
		b.want(abi.Inval, m, "backend_for_shield", text, 0, 0, buf, o)
	}
	e := b.sb.State.(*exec)
	options := b.layWords("key", 1000, 2000) // cache_key, first_byte_timeout_ms, between_bytes_timeout_ms
	for _, mask := range []int{shieldReserved, shieldAll + 1} {
		b.want(abi.Inval, m, "backend_for_shield", "fra1", mask, options, buf, o)
	}
	b.want(abi.Inval, m, "backend_for_shield", "fra1", shieldFirstByte, stOutside, buf, o)
	b.want(abi.BufLen, m, "backend_for_shield", "fra1", 0, 0, b.buf(3), o)
	if len(e.backends) != 0 {
		t.Errorf("%d backends after nothing but refusals", len(e.backends))
	}
	get := func(name string, mask int) *wedge.Backend {
		t.Helper()
		b.want(abi.OK, m, "backend_for_shield", name, mask, options, buf, o)
		got, ok := e.backend(b.text(buf, o))
		if !ok {
			t.Fatalf("no backend %q", b.text(buf, o))
		}
		return got
	}
	byName := get("fra1", 0)
	if byName != get("https://fra1.pop.wedge.internal", 0) || byName.AtPoP != "fra1" || byName.AtService != "shop" || !byName.Dynamic {
		t.Errorf("%+v", byName)
	}
	if plain := get("http://fra1.pop.wedge.internal", 0); plain == byName || plain.AtPoP != "fra1" || plain.URL.Scheme != "http" {
		t.Errorf("%+v", plain)
	}
	if far := get("far", 0); far.AtPoP != "" || far.URL.String() != "https://far.example" {
		t.Errorf("%+v", far)
	}
	if slow := get("fra1", shieldCacheKey|shieldFirstByte|shieldBetweenBytes); slow == byName || slow.FirstByteTimeout != time.Second || slow.BetweenBytesTimeout != 2*time.Second {
		t.Errorf("%+v", slow)
	}
	b.want(abi.LimitExceeded, m, "backend_for_shield", "ams1", 0, 0, buf, o)
	if byName != get("fra1", 0) {
		t.Error("the same again is another")
	}
	b.sb.Host.Shield = nil // a node that is alone
	b.want(abi.Inval, m, "shield_info", "fra1", buf, o)
}
