// Many small questions about what the SDK offers; jsapi_test.go has the answers. Built with --enable-http-cache, and several
// requests come to one sandbox.
import { Acl } from "fastly:acl";
import { Backend } from "fastly:backend";
import { FastlyBody } from "fastly:body";
import { CoreCache, SimpleCache } from "fastly:cache";
import { CacheOverride } from "fastly:cache-override";
import { purgeSurrogateKey } from "fastly:compute";
import { ConfigStore } from "fastly:config-store";
import { setReusableSandboxOptions } from "fastly:experimental";
import { createFanoutHandoff } from "fastly:fanout";
import { getGeolocationForIpAddress } from "fastly:geolocation";
import { KVStore } from "fastly:kv-store";
import { SecretStore } from "fastly:secret-store";
import { createWebsocketHandoff } from "fastly:websocket";

setReusableSandboxOptions({ maxRequests: 0, betweenRequestTimeoutMs: 2000 });

const err = async f => { try { return ["no error", await f()]; } catch (e) { return e.name; } };
const all = (list, f) => Promise.all(list.map(f));
const sleep = ms => new Promise(done => setTimeout(done, ms));
const bytes = s => new TextEncoder().encode(s), text = b => new TextDecoder().decode(b);
const key = () => "k" + Math.random();
const target = url => url.searchParams.get("target");
const pass = (path, init) => fetch("http://origin.test" + path, { backend: "origin", cacheOverride: "pass", ...init });
const saw = async init => (await (await pass("/saw", init)).text()).replaceAll("\r", "").split("\n").filter(line => line);
const kv = () => new KVStore("visits");
const put = (k, v, options) => { const b = CoreCache.insert(k, { maxAge: 60_000, ...options }); b.append(v); b.close(); };
const read = e => e && new Response(e.body()).text();
const state = e => e && ["found", "usable", "stale", "mustInsertOrUpdate"].filter(s => e.state()[s]()).join(" ");

// Fetches through the guest's cache, of a resource of its own, with these overrides each time.
const cached = async (kind, ...overrides) => {
  const url = `http://origin.test/${kind}/${key()}`, out = [];
  for (const o of overrides) out.push(await fetch(url, { backend: "cached", cacheOverride: new CacheOverride("override", o) }));
  return all(out, async r => [r.status, r.cached, (await r.text()).split(" ")[1], r]);
};
const plain = seen => seen.map(s => s.slice(0, 3).join(" "));

const asks = {
  "acl/longest": async () => [await Acl.open("office").lookup("10.6.1.1"), await Acl.open("office").lookup("10.7.1.1")],
  "acl/bad": () => all(["nonsense", ""], ip => err(() => Acl.open("office").lookup(ip))),
  "config/names": () => all(["", "nope", "n".repeat(256)], n => err(() => new ConfigStore(n))),
  "config/keys": () => all(["", "k".repeat(255), "k".repeat(256)], k => err(() => new ConfigStore("settings").get(k))),
  "secret/names": () => all(["no/slash", "nope"], n => err(() => new SecretStore(n))),
  "secret/bytes": () => [SecretStore.fromBytes(new Uint8Array(60_000)).rawBytes().length, SecretStore.fromBytes(new Uint8Array()).plaintext()],
  "geo/own": () => getGeolocationForIpAddress("192.0.2.7"),
  "geo/bad": () => err(() => getGeolocationForIpAddress("nonsense")),

  "kv/ttl": async () => { const s = kv(), k = key(); await s.put(k, "x", { ttl: 1 }); const there = await s.get(k) !== null; await sleep(1200); return [there, await s.get(k)]; },
  "kv/metadata": async () => { const s = kv(), k = key(); await s.put(k, "x", { metadata: new Uint8Array([0, 255]) }); const e = await s.get(k); return [[...new Uint8Array(e.metadata())], await err(() => e.metadataText())]; },
  "kv/metadata-goes": async () => { const s = kv(), k = key(); await s.put(k, "x", { metadata: "m" }); await s.put(k, "y"); return (await s.get(k)).metadata(); },
  "kv/metadata-long": () => err(() => kv().put(key(), "x", { metadata: "m".repeat(5000) })),
  "kv/generation": async () => { const k = key(); await kv().put(k, "x"); return err(() => kv().put(k, "y", { gen: 1 })); },
  "kv/bad-keys": () => all(["", ".", "..", ".well-known/acme-challenge/x", "a#", "a;", "a?", "a^", "a|", "a\n", "a\r", "a".repeat(1025)], k => err(() => kv().put(k, "x"))),
  "kv/odd-keys": async () => { const keys = ["é", '"q"', "\\b", "\t", "a b", "%20", "😀"].map(k => "odd/" + k).sort(); for (const k of keys) await kv().put(k, "x"); const { list } = await kv().list({ prefix: "odd/" }); return list.sort().every((k, i) => k === keys[i]); },
  "kv/append-absent": async () => { const k = key(); await kv().put(k, "x", { mode: "append" }); return (await kv().get(k)).text(); },
  "kv/at-once": async () => { const keys = [...Array(20)].map(key); await all(keys, k => kv().put(k, k)); return (await all(keys, async k => (await (await kv().get(k)).text()) === k)).every(same => same); },

  "backend/options": url => { const b = new Backend({ name: "options", target: target(url), connectTimeout: 1111, firstByteTimeout: 2222, betweenBytesTimeout: 3333, httpKeepalive: 4444, tcpKeepalive: { timeSecs: 5, intervalSecs: 6, probes: 7 } });
    return [b.connectTimeout, b.firstByteTimeout, b.betweenBytesTimeout, b.httpKeepaliveTime, b.tcpKeepalive, b.isSSL, b.target]; },
  "backend/tls": () => { const b = new Backend({ name: "tls", target: "tls.test", useSSL: true, tlsMinVersion: 1.2, tlsMaxVersion: 1.3 }); return [b.isSSL, b.port, b.tlsMinVersion, b.tlsMaxVersion]; },
  "backend/host": async url => { const b = new Backend({ name: "host", target: target(url), hostOverride: "forced.test" }); return [b.hostOverride, await (await fetch("http://x.test/host", { backend: b, cacheOverride: "pass" })).text()]; },
  "backend/targets": () => all(["", "a b", "h:99999", "::", "http://x", "a/b"], (t, i) => err(() => new Backend({ name: "target" + i, target: t }))),
  // The SDK registers a backend for each host it is asked for, and forgets it with the request.
  "backend/implicit": async url => { const r = await fetch(`http://${target(url)}/hello`, { cacheOverride: "pass" }); return [r.backend.isDynamic, await r.text()]; },
  "backend/slow": async url => { const b = new Backend({ name: "slow", target: target(url), firstByteTimeout: 30 }); return err(() => fetch("http://x.test/slow", { backend: b, cacheOverride: "pass" })); },

  "fetch/get": () => saw(),
  "fetch/post-nothing": () => saw({ method: "POST" }),
  "fetch/post-text": () => saw({ method: "POST", body: "text" }),
  "fetch/post-params": () => saw({ method: "POST", body: new URLSearchParams({ a: "1 2" }) }),
  "fetch/post-stream": () => saw({ method: "PUT", body: new ReadableStream({ start(c) { c.enqueue(bytes("a")); c.enqueue(bytes("b")); c.close(); } }), duplex: "half" }),
  "fetch/length": () => saw({ method: "POST", body: "12345", headers: { "content-length": "3" } }),
  "fetch/manual": () => saw({ method: "POST", body: "12345", headers: { "transfer-encoding": "chunked" }, manualFramingHeaders: true }),
  "fetch/headers": () => saw({ headers: [["x-empty", ""], ["x-two", "1"], ["X-Two", "2"], ["keep-alive", "5"], ["upgrade", "h2c"]] }),
  "fetch/key": () => saw({ cacheKey: "own" }),
  "fetch/url": async () => all(["/saw?a b=é&%zz", "/saw?x#fragment"], async u => (await (await pass(u)).text()).split(" ")[2]),
  "fetch/statuses": () => all(["/204", "/304"], async u => { const r = await pass(u); return [r.status, await r.text()]; }),
  "fetch/race": () => Promise.race([pass("/never").then(() => "fetch"), sleep(20).then(() => "timer")]),

  "body/pieces": () => { const b = new FastlyBody(); b.append("b"); b.append(bytes("c")); b.prepend("a"); return [text(b.read(2)), text(b.read(9)), b.read(9).byteLength]; },
  "body/closed": () => { const b = new FastlyBody(); b.close(); return err(() => b.append("x")); },

  "simple/none": () => { const k = key(); SimpleCache.set(k, "x", 0); return SimpleCache.get(k); },
  "simple/throws": async () => { const k = key(); return [await err(() => SimpleCache.getOrSet(k, async () => { throw new RangeError("no"); })), await (await SimpleCache.getOrSet(k, async () => ({ value: "x", ttl: 60 }))).text()]; },
  "simple/at-once": async () => { const k = key(); let n = 0; const got = await all([1, 2], async () => (await SimpleCache.getOrSet(k, async () => { n++; await sleep(5); return { value: "x", ttl: 60 }; })).text()); return [got, n]; },

  "core/length": () => { const k = key(); put(k, "12345"); return CoreCache.lookup(k).length(); },
  "core/written": async () => { const k = key(), b = CoreCache.insert(k, { maxAge: 60_000 }); b.append("one "); const e = CoreCache.lookup(k), unknown = e.length(), rest = read(e); b.append("two"); b.close(); return [unknown, await rest]; },
  "core/short": () => { const k = key(); put(k, "half", { length: 8 }); return CoreCache.lookup(k); },
  "core/old": () => { const k = key(); put(k, "x", { maxAge: 1000, initialAge: 2000 }); return CoreCache.lookup(k); },
  "core/range": async () => { const k = key(); put(k, "0123456789"); return all([{ start: 7 }, { end: 2 }, { start: 3, end: 4 }], o => new Response(CoreCache.lookup(k).body(o)).text()); },
  "core/body-twice": () => { const k = key(); put(k, "x"); const e = CoreCache.lookup(k); e.body(); return err(() => e.body()); },
  "core/soft": () => { const k = key(), never = key(); put(k, "x", { surrogateKeys: [k], staleWhileRevalidate: 60_000 }); put(never, "x", { surrogateKeys: [k] }); purgeSurrogateKey(k, true); return [state(CoreCache.transactionLookup(k)), state(CoreCache.transactionLookup(k)), CoreCache.lookup(never)]; },
  "core/itself": () => { const k = key(); return [state(CoreCache.transactionLookup(k)), state(CoreCache.transactionLookup(k))]; },
  "core/abandoned": () => { const k = key(), b = CoreCache.transactionLookup(k).insert({ maxAge: 60_000 }); b.append("x"); b.abandon(); return state(CoreCache.transactionLookup(k)); },
  "core/twice": () => { const e = CoreCache.transactionLookup(key()); e.insert({ maxAge: 1 }).close(); return all([() => e.insert({ maxAge: 1 }), () => e.update({ maxAge: 1 }), () => e.cancel()], err); },

  "http/override": async () => { const [, [, , , r]] = await cached("plain", { ttl: 100, swr: 50, surrogateKey: "a b" }, {}); return [Math.round(r.ttl), r.swr, r.surrogateKeys]; },
  "http/ttl-0": async () => plain(await cached("fresh", { ttl: 0 }, {})),
  "http/uncacheable": async () => plain(await cached("fresh", { afterSend: () => ({ cache: "uncacheable" }) }, {})),
  "http/not-this": async () => plain(await cached("fresh", { afterSend: () => ({ cache: false }) }, {}, {})),
  "http/after-all": async () => plain(await cached("private", { afterSend(r) { r.ttl = 60; return { cache: true }; } }, {})),
  "http/changed": async () => { const [, [status, hit, , r]] = await cached("plain", { afterSend(r) { r.status = 201; r.ttl = 77; r.vary = ["x-v"]; r.pci = true; r.headers.set("x-after", "1"); } }, {}); return [status, hit, Math.round(r.ttl), r.vary, r.pci, r.headers.get("x-after")]; },
  "http/body": async () => (await cached("fresh", { afterSend: () => ({ bodyTransformFn: async b => bytes(text(b).replace("1", "one")) }) }, {})).map(seen => seen[2]),
  "http/throws": async () => { const url = "http://origin.test/fresh/" + key(), hook = h => err(() => fetch(url, { backend: "cached", cacheOverride: new CacheOverride("override", h) })); const no = () => { throw new RangeError("no"); }; return [await hook({ beforeSend: no }), await hook({ afterSend: no })]; },
  "http/cacheable": () => ["GET", "HEAD", "POST"].map(method => new Request("http://x.test/", { method }).isCacheable),

  "handoff": (url, request) => [createWebsocketHandoff(request, "origin") instanceof Response, createFanoutHandoff(request, "origin") instanceof Response],
};

addEventListener("fetch", e => e.respondWith((async () => {
  const url = new URL(e.request.url);
  try {
    return new Response(JSON.stringify(await asks[url.pathname.slice(1)](url, e.request)));
  } catch (err) {
    return new Response(`${err.name}: ${err.message}\n${err.stack}`, { status: 500 });
  }
})()));
