// The JavaScript guest that keeps things in the cache itself; built with --enable-http-cache.
import { CacheOverride } from "fastly:cache-override";
import { CoreCache, SimpleCache } from "fastly:cache";
import { purgeSurrogateKey } from "fastly:compute";

const json = v => new Response(JSON.stringify(v));
const tried = async f => { try { return await f(); } catch (err) { return err.name; } };
const text = entry => new Response(entry.body()).text();
const state = entry => ["found", "usable", "stale", "mustInsertOrUpdate"].filter(s => entry.state()[s]()).join(" ");
const sleep = ms => new Promise(done => setTimeout(done, ms));
const write = (body, s) => { body.append(s); body.close(); };

const hooks = seen => new CacheOverride("override", {
  surrogateKey: "hooked",
  beforeSend(req) { req.headers.set("x-before", "sent"); },
  afterSend(resp) {
    seen.push(resp.status);
    resp.headers.set("x-after", "seen");
    resp.ttl = 3600;
    return { cache: true, bodyTransformFn: b => new TextEncoder().encode(new TextDecoder().decode(b).toUpperCase()) };
  },
});

const about = async (r, seen) => json({
  status: r.status, text: await r.text(), cached: r.cached, stale: r.stale, ttl: Math.round(r.ttl), age: Math.round(r.age), swr: r.swr,
  vary: [...r.vary], after: r.headers.get("x-after"), seen,
});

const routes = {
  async "/simple"() {
    const get = async k => { const e = SimpleCache.get(k); return e && await new Response(e.body).text(); };
    const before = await get("k");
    SimpleCache.set("k", "value", 60);
    const set = await get("k");
    const made = [];
    for (let i = 0; i < 2; i++) {
      const e = await SimpleCache.getOrSet("computed", async () => { made.push(i); return { value: "computed " + i, ttl: 60 }; });
      made.push(await e.text());
    }
    const failed = await tried(() => SimpleCache.getOrSet("failing", async () => { throw new RangeError("no"); }));
    SimpleCache.purge("k", { scope: "pop" });
    const long = "k".repeat(8135); // the longest that the SDK lets through
    SimpleCache.set(long, "long", 60);
    SimpleCache.set("stream", (await fetch("http://origin.test/plain/simple", { backend: "cached" })).body, 60, 6); // which it does not end
    return json({ before, set, made, failed, failing: await get("failing"), purged: await get("k"), kept: await get("computed"), long: await get(long), stream: await get("stream") });
  },

  async "/core"() {
    const out = { absent: CoreCache.lookup("core") };
    write(CoreCache.insert("core", { maxAge: 60_000, staleWhileRevalidate: 5_000, initialAge: 2_000, surrogateKeys: ["core", "x"], length: 10, userMetadata: "meta" }), "0123456789");
    const e = CoreCache.lookup("core");
    Object.assign(out, { state: state(e), maxAge: e.maxAge(), swr: e.staleWhileRevalidate(), young: e.age() >= 2000 && e.age() < 3000, hits: e.hits(), length: e.length(),
      meta: new TextDecoder().decode(e.userMetadata()), body: await text(e) });
    out.range = await new Response(CoreCache.lookup("core").body({ start: 2, end: 4 })).text();
    const headers = { color: "red" };
    write(CoreCache.insert("varied", { maxAge: 60_000, headers, vary: ["color"] }), "red");
    out.vary = [await text(CoreCache.lookup("varied", { headers })), CoreCache.lookup("varied", { headers: { color: "blue" } })];
    CoreCache.insert("abandoned", { maxAge: 60_000 }).abandon();
    await sleep(10);
    out.abandoned = CoreCache.lookup("abandoned");
    const short = CoreCache.insert("short", { maxAge: 60_000, length: 10 });
    write(short, "half");
    await sleep(10);
    out.short = CoreCache.lookup("short");
    purgeSurrogateKey("core");
    out.purged = CoreCache.lookup("core");
    return json(out);
  },

  async "/transaction"() {
    const first = CoreCache.transactionLookup("t"), out = [state(first)];
    const pending = CoreCache.transactionLookupAsync("t");
    out.push(pending.pending());
    const [body, back] = first.insertAndStreamBack({ maxAge: 1, staleWhileRevalidate: 60_000, userMetadata: "one" });
    const other = await pending.wait();
    out.push(state(back), state(other), await tried(() => first.insert({ maxAge: 1 })));
    write(body, "streamed");
    out.push(await text(back), await text(other));
    await sleep(10);
    const chosen = CoreCache.transactionLookup("t"), stale = CoreCache.transactionLookup("t");
    out.push(state(chosen), state(stale), await tried(() => stale.update({ maxAge: 1 })));
    chosen.update({ maxAge: 60_000, userMetadata: "two" });
    const now = CoreCache.transactionLookup("t");
    out.push(state(now), new TextDecoder().decode(now.userMetadata()), await text(now));
    const given = CoreCache.transactionLookup("u");
    given.cancel();
    out.push(state(CoreCache.transactionLookup("u")));
    return json(out);
  },

  // One of all who come at the same time inserts.
  async "/herd"(url) {
    const e = CoreCache.transactionLookup("herd" + url.search);
    if (!e.state().mustInsertOrUpdate()) return new Response("shared " + await text(e));
    await sleep(200);
    const [body, back] = e.insertAndStreamBack({ maxAge: 60_000 });
    body.append("streamed ");
    await sleep(50);
    write(body, "whole");
    return new Response("inserted " + await text(back));
  },

  // Ends with the obligation; or with a body that is not whole.
  "/leave"(url) {
    const e = CoreCache.transactionLookup("left" + url.search), was = state(e);
    if (url.searchParams.has("body")) e.insert({ maxAge: 60_000 }).append("half");
    return new Response(was);
  },

  async "/fetch"(url, request) {
    return about(await fetch("http://origin.test" + url.searchParams.get("path"), { backend: "cached", headers: request.headers }));
  },
  async "/hooks"(url) {
    const seen = [];
    return about(await fetch("http://origin.test" + url.searchParams.get("path"), { backend: "cached", cacheOverride: hooks(seen) }), seen);
  },
  // Neither waits for the other, for the one guest would wait for itself.
  async "/twice"(url) {
    const both = await Promise.all([1, 2].map(() => fetch("http://origin.test" + url.searchParams.get("path"), { backend: "cached" })));
    return json(await Promise.all(both.map(async r => [r.status, (await r.text()).slice(0, 3)])));
  },
  // Of a new response without surrogate keys, or one not marked sensitive, the SDK aborts at these.
  async "/found"(url, request) {
    const r = await fetch("http://origin.test" + url.searchParams.get("path"), { backend: "cached", headers: request.headers });
    return json(r.cached ? [...r.surrogateKeys, r.pci] : []);
  },
  "/pass-on": (url, request) => fetch("http://origin.test" + url.searchParams.get("path"), { backend: "cached", headers: request.headers }),
};

addEventListener("fetch", e => e.respondWith((async () => {
  const url = new URL(e.request.url);
  try {
    return await routes[url.pathname](url, e.request);
  } catch (err) {
    return new Response(`${err.name}: ${err.message}\n${err.stack}`, { status: 500 });
  }
})()));
