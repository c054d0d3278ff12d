import assert from "node:assert/strict";
import { test } from "node:test";
import { apologies, open, SharedError } from "../shared.js";

const headers = { "Wedge-State": 'merge; pop="nrt"; kind=stock; from="lhr"; age=0.250; asked', "Wedge-Left": "7", "Wedge-State-Token": "nrt.1:2" };

// host answers as the state API does; asked has what it was asked.
function host(answers) {
  const asked = [];
  const send = async (url, { method, body, headers: sent }) => {
    const extra = Object.entries(sent).map(([name, value]) => ` ${name}: ${value}`).join("");
    asked.push(`${method} ${url.replace("http://state.wedge.internal", "")}${body ? " " + body : ""}${extra}`);
    const [status, text] = answers[new URL(url).pathname] || [404, '{"kind":"not-exist","error":"no"}'];
    return new Response(status === 204 ? null : text, { status, headers });
  };
  return { asked, store: open("b", {}, send) };
}

test("each method asks what the host understands, and understands its answer", async () => {
  const { asked, store } = host({
    "/b/n": [200, "42"], "/b/set": [200, '["a"]'], "/b/l": [200, '[{"id":"x:1","at":"2026-01-02T03:04:05Z","value":{"a":1}}]'],
    "/b/m": [200, '{"n":3,"in":{"r":"y"}}'], "/b/s": [200, '{"total":100,"spent":9,"shares":[]}'], "/b/k": [204, ""],
    "/b/gone": [429, '{"kind":"exhausted","error":"not so many left: 0 here","hint":"h"}'],
  });
  const was = line => assert.equal(asked.shift(), line);
  assert.equal(await store.counter("n").add(-2), 42);
  was('POST /b/n?kind=counter {"op":"add","by":-2}');
  await store.set("set").add("a b");
  was('POST /b/set?kind=add-wins {"op":"add","value":"a b"}');
  assert.deepEqual(await store.set("set").all(), ["a"]);
  was("GET /b/set");
  await store.list("l").append({ a: 1 }, 50);
  was('POST /b/l?kind=list {"op":"append","value":{"a":1},"keep":50}');
  assert.equal((await store.list("l").items())[0].value.a, 1);
  was("GET /b/l");
  assert.equal(await store.map("m").counter("n").add(3), 3);
  was('POST /b/m?kind=map {"op":"add","by":3,"path":["n"],"kind":"counter"}');
  assert.equal(await store.map("m").map("in").register("r").get(), "y");
  was("GET /b/m");
  await store.map("m").register("r").set("y", "ada");
  was('POST /b/m?kind=map {"op":"set","value":"y","who":"ada","path":["r"],"kind":"register"}');
  await store.map("m").map("in").drop("r");
  was('POST /b/m?kind=map {"op":"drop","path":["in","r"]}');
  const state = await store.stock("s").spend(2);
  was('POST /b/s?kind=stock {"op":"spend","by":2}');
  assert.deepEqual(state, { total: 100, spent: 9, shares: [], left: 7 });
  assert.deepEqual(store.last, { pop: "nrt", from: "lhr", age: 0.25, asked: true, left: 7, token: "nrt.1:2", tag: "" });
  assert.equal(await store.reading({ maxStaleness: 1.5, atLeast: "lhr.1:2", wait: 1 }).get("a/k?"), null);
  was("GET /b/a/k%3F Wedge-Max-Staleness: 1.5 Wedge-At-Least: lhr.1:2 Wedge-Wait: 1");
  await store.put("k", "v", { add: true, ttl: 60 });
  was("PUT /b/k v Wedge-TTL: 60 If-None-Match: *");
  assert.equal(await store.counter("new").value(), 0);
  await assert.rejects(store.stock("gone").spend(), error => error instanceof SharedError && error.short && error.message === "not so many left: 0 here");
});

test("apologies are taken, or told again", async () => {
  const tell = (body, take, method = "POST") => apologies(new Request("http://x/sorry", { method, body: method === "GET" ? undefined : body }), take);
  let got;
  assert.equal((await tell('{"key":"seat","who":"ada"}', apology => { got = apology; })).status, 204);
  assert.equal(got.who, "ada");
  assert.equal((await tell("{}", () => { throw new Error("no"); })).status, 503);
  assert.equal((await tell("{", () => {})).status, 400);
  assert.equal((await tell("", () => {}, "GET")).status, 405);
});
