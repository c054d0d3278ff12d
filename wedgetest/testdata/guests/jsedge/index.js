// The JavaScript guest that uses what a PoP offers besides fetching and storing.
import { RateCounter, PenaltyBox, EdgeRateLimiter } from "fastly:edge-rate-limiter";

const json = v => new Response(JSON.stringify(v));
const tried = async f => { try { return await f(); } catch (err) { return err.name; } };

const routes = {
  async "/rates"(_, url) {
    const counter = new RateCounter("requests"), box = new PenaltyBox("bad"), key = url.searchParams.get("key");
    const limiter = new EdgeRateLimiter(counter, box);
    const blocked = [];
    for (let i = 0; i < 4; i++) blocked.push(limiter.checkRate(key, 20, 60, 1, 2));
    counter.increment(key, 5);
    box.add(key + " other", 1);
    return json({
      blocked, count: counter.lookupCount(key, 60), rate: counter.lookupRate(key, 60), has: [box.has(key), box.has(key + " other"), box.has("nobody")],
      bad: [await tried(() => counter.lookupRate(key, 5)), await tried(() => counter.lookupCount(key, 15)), await tried(() => box.add(key, 61))],
    });
  },

  // Sixty a minute of each key.
  "/limited"(_, url) {
    const blocked = new EdgeRateLimiter(new RateCounter("few"), new PenaltyBox("many")).checkRate(url.searchParams.get("key"), 1, 60, 1, 2);
    return new Response("", { status: blocked ? 429 : 200 });
  },

  // The sizes in bytes are the encoders' own business.
  async "/image"(_, url) {
    const options = { region: "us_east", ...JSON.parse(url.searchParams.get("o")) };
    const r = await tried(() => fetch(new URL(url.searchParams.get("path"), "http://origin.test"), { backend: "origin", imageOptimizerOptions: options }));
    if (typeof r === "string") return new Response(r);
    const info = r.headers.get("fastly-io-info")?.replace(/[io]fsz=\d+ /g, "");
    return json({ status: r.status, type: r.headers.get("content-type"), info: info ?? null, warning: r.headers.get("fastly-io-warning") });
  },
};

addEventListener("fetch", event => event.respondWith((async () => {
  const url = new URL(event.request.url), route = routes[url.pathname];
  return route ? route(event.request, url) : new Response("no route\n", { status: 404 });
})()));
