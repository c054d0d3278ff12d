export default {
  fetch: () => new Response("Hello, edge!\n", {
    headers: { "content-type": "text/plain; charset=utf-8" },
  }),
};
