// Waits for a slow origin and passes its answer on.
addEventListener("fetch", event => event.respondWith(answer()));

async function answer() {
  const response = await fetch("http://origin.example/", { backend: "origin" });
  return new Response(await response.text());
}
