// The JavaScript guest under test: each path tries one thing that the SDK offers.
import { env } from "fastly:env";
import { Backend, enforceExplicitBackends } from "fastly:backend";
import { CacheOverride } from "fastly:cache-override";
import { ConfigStore } from "fastly:config-store";
import { Dictionary } from "fastly:dictionary";
import { KVStore } from "fastly:kv-store";
import { SecretStore } from "fastly:secret-store";
import { Logger } from "fastly:logger";
import { Device } from "fastly:device";
import { Acl } from "fastly:acl";
import { getGeolocationForIpAddress } from "fastly:geolocation";
import { createWebsocketHandoff } from "fastly:websocket";
import { vCpuTime } from "fastly:compute";
import { HTMLRewritingStream } from "fastly:html-rewriter";
import { inspect } from "fastly:security";

const json = (v, init) => new Response(JSON.stringify(v), { headers: { "content-type": "application/json" }, ...init });
const tried = async f => { try { return await f(); } catch (err) { return err.name; } };
const sleep = ms => new Promise(done => setTimeout(done, ms));
const origin = (path, init) => fetch("http://origin.test" + path, { backend: "origin", ...init });

const routes = {
  "/hello": () => new Response("Hello, edge!\n"),
  "/empty": () => new Response(null, { status: 204 }),
  "/status": (e, url) => new Response("s", { status: Number(url.searchParams.get("code")) }),

  async "/request"(e) {
    const r = e.request, seen = {};
    for (const [k, v] of r.headers) seen[k] = v;
    return json({ method: r.method, url: r.url, headers: seen, body: await r.text() });
  },

  "/headers"() {
    const h = new Headers();
    h.append("x-two", "a");
    h.append("x-two", "b");
    h.append("Set-Cookie", "a=1");
    h.append("Set-Cookie", "b=2; Path=/");
    h.set("x-long", "y".repeat(5000));
    h.set("x-gone", "1");
    h.delete("x-gone");
    return new Response("ok", { headers: h });
  },

  "/client"(e) {
    const c = e.client;
    return json({
      address: c.address, geo: c.geo && c.geo.city, server: e.server.address, protocol: c.tlsProtocol,
      cipher: c.tlsCipherOpensslName, sni: c.tlsClientSNI ?? null, hello: c.tlsClientHello ? c.tlsClientHello.byteLength : null,
      ja3: c.tlsJA3MD5 ?? null, ja4: c.tlsJA4 ?? null, cert: c.tlsClientCertificate && c.tlsClientCertificate.byteLength,
      h2: c.h2Fingerprint ?? null, oh: c.ohFingerprint ?? null, id: c.requestId ?? null,
    });
  },

  "/env": () => json(["FASTLY_SERVICE_ID", "FASTLY_SERVICE_VERSION", "FASTLY_HOSTNAME", "FASTLY_TRACE_ID", "OWN", "ABSENT"].map(n => env(n))),

  // Fetches.
  "/proxy": () => origin("/hello"),
  "/big": (e, url) => origin("/big" + url.search),
  "/echo": e => origin("/echo", { method: "POST", body: e.request.body, headers: { "content-type": "text/x" } }),
  async "/echo-text"(e) {
    return origin("/echo", { method: "POST", body: await e.request.text() });
  },
  async "/fetch-head"() {
    const shared = await origin("/headers"), r = await origin("/headers", { cacheOverride: new CacheOverride("pass") });
    return json({ shared: shared.ip ?? null, status: r.status, ok: r.ok, two: r.headers.get("x-two"), cookies: r.headers.getSetCookie ? r.headers.getSetCookie() : null, ip: r.ip ?? null, port: r.port ? true : null, text: await r.text() });
  },
  async "/fetch-many"() {
    const all = await Promise.all([1, 2, 3, 4, 5].map(async n => (await origin("/slow?" + n)).text()));
    return new Response(all.join(","));
  },
  async "/fetch-race"() {
    const fast = await Promise.race([origin("/never"), sleep(50).then(() => "timer")]);
    return new Response(String(fast));
  },
  async "/fetch-gzip"() {
    const r = await origin("/gzip", { fastly: { decompressGzip: true } });
    return json({ encoding: r.headers.get("content-encoding"), text: await r.text() });
  },
  async "/fetch-cache"() {
    const r = await origin("/hello", { cacheOverride: new CacheOverride("override", { ttl: 60, swr: 5, surrogateKey: "a b" }) });
    return new Response(await r.text());
  },
  async "/fetch-errors"() {
    const out = {};
    out.unknown = await tried(() => fetch("http://origin.test/", { backend: "nope" }));
    out.refused = await tried(() => fetch("http://origin.test/", { backend: "refused" }));
    out.garbage = await tried(() => origin("/garbage"));
    out.early = await tried(() => origin("/early"));
    out.short = await tried(async () => (await origin("/short")).text());
    out.never = await tried(() => fetch("http://origin.test/never", { backend: "impatient" }));
    return json(out);
  },
  "/fail": (e, url) => fetch("http://origin.test" + url.searchParams.get("path"), { backend: url.searchParams.get("backend") || "origin" }),
  "/raw-error"() { throw new TypeError("secret detail of the guest"); },

  "/forward": e => fetch(new Request("http://origin.test/echo", e.request), { backend: "origin" }),
  async "/forward-headers"(e) {
    const r = new Request("http://origin.test/saw", { method: e.request.method, headers: e.request.headers, body: e.request.body });
    r.headers.set("x-added", "1");
    r.headers.delete("x-secret");
    return fetch(r, { backend: "origin" });
  },
  "/forward-status": (e, url) => origin("/" + url.searchParams.get("code")),
  "/redirect": () => Response.redirect("http://x.test/y", 307),
  "/redirected": () => origin("/redirect"),
  "/json": () => Response.json({ a: [1, null] }, { status: 201 }),
  "/manual": () => new Response("12345", { headers: { "content-length": "5" }, manualFramingHeaders: true }),
  async "/manual-fetch"() {
    return origin("/echo", { method: "POST", body: "12345", headers: { "content-length": "5" }, manualFramingHeaders: true });
  },
  async "/many-headers"() {
    const r = await origin("/many");
    let n = 0, bytes = 0;
    for (const [k, v] of r.headers) n++, (bytes += v.length);
    return new Response(JSON.stringify({ n, bytes }), { headers: r.headers });
  },
  async "/clone"(e) {
    const again = e.request.clone();
    return new Response(await e.request.text() + await again.text());
  },
  async "/tls"(e, url) {
    const ca = await e.request.text();
    const b = new Backend({ name: "tls", target: url.searchParams.get("target"), useSSL: true, sniHostname: "edge.test", certificateHostname: "edge.test", caCertificate: ca, tlsMinVersion: 1.2, tlsMaxVersion: 1.3 });
    const r = await fetch("https://edge.test/x", { backend: b });
    return json({ text: await r.text(), ssl: b.isSSL, port: b.port > 0 });
  },
  async "/mtls"(e, url) {
    const { cert, key } = await e.request.json(), out = [];
    const own = { clientCertificate: { certificate: cert, key: SecretStore.fromBytes(new TextEncoder().encode(key)) } };
    for (const shown of [own, {}]) {
      const b = new Backend({ name: "mtls" + out.length, target: url.searchParams.get("target"), useSSL: true, sniHostname: "edge.test", certificateHostname: "edge.test", caCertificate: cert, ...shown });
      out.push(await tried(async () => (await fetch("https://edge.test/x", { backend: b })).text()));
    }
    return json(out);
  },
  async "/tls-bad"(e, url) {
    const b = new Backend({ name: "tls", target: url.searchParams.get("target"), useSSL: true });
    return new Response(await tried(() => fetch("https://edge.test/x", { backend: b })));
  },
  async "/kv-big"() {
    const s = new KVStore("visits");
    await s.put("huge", (await origin("/big?n=5000000")).body);
    return new Response((await s.get("huge")).body);
  },
  "/url": e => new Response(e.request.url.slice(e.request.url.indexOf("/", 8))),
  async "/body-twice"(e) {
    await e.request.text();
    return new Response(await tried(() => e.request.text()));
  },

  // Streams.
  "/stream"() {
    let n = 0;
    return new Response(new ReadableStream({
      async pull(c) {
        if (n === 3) return c.close();
        await sleep(5);
        c.enqueue(new TextEncoder().encode(`part ${n++}\n`));
      },
    }));
  },
  "/endless"() {
    const piece = new Uint8Array(16384).fill(120);
    return new Response(new ReadableStream({ pull(c) { c.enqueue(piece); } }));
  },
  "/stream-error"() {
    let n = 0;
    return new Response(new ReadableStream({
      pull(c) {
        if (n++ === 2) return c.error(new Error("broken"));
        c.enqueue(new TextEncoder().encode("piece\n"));
      },
    }));
  },
  async "/transform"() {
    const r = await origin("/hello");
    const upper = new TransformStream({
      transform(chunk, c) { c.enqueue(new TextEncoder().encode(new TextDecoder().decode(chunk).toUpperCase())); },
      flush(c) { c.enqueue(new TextEncoder().encode("END\n")); },
    });
    return new Response(r.body.pipeThrough(upper));
  },
  async "/identity"() {
    const { readable, writable } = new TransformStream();
    const r = await origin("/hello");
    r.body.pipeTo(writable);
    return new Response(readable);
  },
  async "/upload-stream"() {
    let n = 0;
    const body = new ReadableStream({
      async pull(c) {
        if (n === 4) return c.close();
        await sleep(2);
        c.enqueue(new TextEncoder().encode("up" + n++));
      },
    });
    return origin("/echo", { method: "PUT", body, duplex: "half" });
  },
  async "/tee"() {
    const r = await origin("/hello");
    const [a, b] = r.body.tee();
    return new Response(await new Response(a).text() + await new Response(b).text());
  },
  async "/gzip-out"() {
    const r = await origin("/hello");
    return new Response(r.body.pipeThrough(new CompressionStream("gzip")), { headers: { "content-encoding": "gzip" } });
  },
  async "/rewrite"() {
    const page = new Response("<html><body><h1 id=a>old</h1></body></html>");
    const stream = new HTMLRewritingStream().onElement("h1", el => { el.setAttribute("class", "x"); el.replaceChildren("new"); });
    return new Response(page.body.pipeThrough(stream));
  },
  async "/read-chunks"(e) {
    const reader = e.request.body.getReader();
    let n = 0, bytes = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      n++;
      bytes += value.length;
    }
    return json({ many: n > 1, bytes });
  },

  // Stores.
  async "/kv"() {
    const s = new KVStore("visits");
    const out = {};
    out.absent = await s.get("absent");
    await s.put("k", "value", { metadata: "meta", ttl: 60 });
    const v = await s.get("k");
    out.text = await v.text();
    out.meta = v.metadataText();
    await s.put("k", "+tail", { mode: "append" });
    await s.put("k", "head+", { mode: "prepend" });
    out.joined = await (await s.get("k")).text();
    out.add = await tried(() => s.put("k", "x", { mode: "add" }));
    await s.put("big", new Uint8Array(300000).fill(65));
    out.big = (await (await s.get("big")).arrayBuffer()).byteLength;
    await s.put("streamed", new Response("from a stream").body);
    out.streamed = await (await s.get("streamed")).text();
    for (let i = 0; i < 5; i++) await s.put("list/" + i, "x");
    const page = await s.list({ prefix: "list/", limit: 3 });
    const rest = await s.list({ prefix: "list/", limit: 3, cursor: page.cursor });
    out.list = [page.list, rest.list, rest.cursor ?? null];
    await s.delete("k");
    out.deleted = await s.get("k");
    out.seed = await (await s.get("seed")).text();
    out.seedMeta = (await s.get("seed")).metadataText();
    out.nostore = await tried(() => new KVStore("nope"));
    out.badkey = await tried(() => s.put("a#b", "x"));
    return json(out);
  },
  async "/kv-serve"() {
    return new Response((await new KVStore("visits").get("seed")).body);
  },
  "/config"() {
    const s = new ConfigStore("settings"), d = new Dictionary("settings");
    return json({ get: s.get("greeting"), absent: s.get("absent"), dict: d.get("greeting"), dictAbsent: d.get("absent"), long: s.get("long").length });
  },
  async "/config-missing"() {
    return json([await tried(() => new ConfigStore("nope")), await tried(() => new Dictionary("nope"))]);
  },
  async "/secret"() {
    const s = new SecretStore("keys");
    const v = await s.get("token");
    return json({ text: v.plaintext(), raw: v.rawBytes().length, absent: await s.get("absent"), bytes: SecretStore.fromBytes(new Uint8Array([104, 105])).plaintext(), store: await tried(() => new SecretStore("nope")) });
  },
  async "/acl"() {
    const a = Acl.open("office");
    return json({ in: await a.lookup("10.1.2.3"), out: await a.lookup("192.0.2.1"), open: await tried(() => Acl.open("nope")) });
  },
  "/geo"() {
    const g = getGeolocationForIpAddress("127.0.0.1"), own = getGeolocationForIpAddress("192.0.2.7");
    return json({ city: g.city, own: own && own.city, unknown: getGeolocationForIpAddress("198.51.100.1") });
  },
  "/device"() {
    const d = Device.lookup("test-phone");
    return json({ name: d && d.name, mobile: d && d.isMobile, unknown: Device.lookup("nothing known") });
  },
  "/log"() {
    const l = new Logger("audit");
    l.log("line one");
    l.log("line two\n");
    console.log("to stdout", 1, { a: 2 });
    console.error("to stderr");
    return new Response("logged");
  },
  "/backend"() {
    const b = Backend.fromName("origin");
    return json({
      name: b.name, dynamic: b.isDynamic, target: b.target, ssl: b.isSSL, connect: b.connectTimeout,
      first: b.firstByteTimeout, between: b.betweenBytesTimeout, health: b.health(), exists: [Backend.exists("origin"), Backend.exists("nope")],
      min: b.tlsMinVersion, keep: b.httpKeepaliveTime, tcp: b.tcpKeepalive,
    });
  },
  async "/dynamic"(e, url) {
    const b = new Backend({ name: "dyn", target: url.searchParams.get("target"), hostOverride: "dyn.test", connectTimeout: 1000, firstByteTimeout: 5000, betweenBytesTimeout: 5000, useSSL: false });
    const r = await fetch("http://dyn.test/hello", { backend: b });
    return json({ dynamic: b.isDynamic, text: await r.text(), twice: await tried(() => new Backend({ name: "dyn", target: "x.test" })) });
  },
  async "/dynamic-implicit"(e, url) {
    const r = await fetch("http://" + url.searchParams.get("target") + "/hello");
    return new Response(await r.text());
  },

  // Life of a request.
  "/hints"(e) {
    e.sendEarlyHints({ link: "</style.css>; rel=preload; as=style" });
    e.sendEarlyHints([["link", "</b.css>; rel=preload"], ["link", "</c.js>; rel=preload"]]);
    return new Response("done");
  },
  "/wait-until"(e) {
    e.waitUntil((async () => {
      await sleep(100);
      await new KVStore("visits").put("after", "written after the answer");
    })());
    return new Response("answered");
  },
  async "/after"() {
    const v = await new KVStore("visits").get("after");
    return new Response(v ? await v.text() : "nothing yet");
  },
  async "/timers"() {
    const order = [];
    const iv = setInterval(() => order.push("i"), 10);
    await sleep(35);
    clearInterval(iv);
    queueMicrotask(() => order.push("m"));
    await 0;
    return json({ ticks: order.filter(x => x === "i").length >= 2, micro: order.includes("m"), now: performance.now() > 30 });
  },
  async "/crypto"() {
    const d = await crypto.subtle.digest("SHA-256", new TextEncoder().encode("abc"));
    return json({ sha: [...new Uint8Array(d)].map(b => b.toString(16).padStart(2, "0")).join(""), uuid: crypto.randomUUID().length, rand: crypto.getRandomValues(new Uint8Array(8)).length, draw: crypto.randomUUID() });
  },
  "/ws": e => createWebsocketHandoff(e.request, "ws"),
  "/ws-nope": e => createWebsocketHandoff(e.request, "nope"),
  "/cpu"() {
    const before = vCpuTime();
    let x = 0;
    for (let i = 0; i < 2e5; i++) x += i;
    return json({ before: before >= 0, grew: vCpuTime() >= before, x });
  },
  "/inspect": async () => json({ inspect: await inspect(new Request("http://x.test/"), { corp: "c", workspace: "w" }) }),

  // What a guest must not do.
  "/loop"() { for (;;); },
  "/recurse"() {
    const f = n => f(n + 1) + 1;
    return new Response(String(f(0)));
  },
  "/memory"() {
    const all = [];
    for (;;) all.push(new Uint8Array(8 << 20));
  },
  "/hostcalls"() { for (;;) new Headers({ a: "b" }).get("a"), new Request("http://x.test/", { headers: { a: "b" } }).headers.get("a"); },
  "/header-bomb"() {
    const h = new Headers();
    for (let i = 0; i < 300; i++) h.append("x-" + i, "y".repeat(1000));
    return new Response("x", { headers: h });
  },
  "/log-bomb"() {
    const l = new Logger("bomb");
    for (let i = 0; i < 2000; i++) l.log("x".repeat(1000));
    return new Response("x");
  },
};

addEventListener("fetch", e => e.respondWith(handle(e)));

async function handle(e) {
  const url = new URL(e.request.url);
  const route = routes[url.pathname];
  if (!route) return new Response("no route\n", { status: 404 });
  if (url.searchParams.has("raw") || ["/raw-error", "/memory", "/fail"].includes(url.pathname)) return route(e, url);
  try {
    return await route(e, url);
  } catch (err) {
    return new Response(`${err.name}: ${err.message}\n${err.stack}`, { status: 599 });
  }
}
