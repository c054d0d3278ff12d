// The smallest guest in JavaScript.
addEventListener("fetch", event => event.respondWith(new Response("Hello, edge!\n", {
  headers: { "content-type": "text/plain; charset=utf-8" },
})));
