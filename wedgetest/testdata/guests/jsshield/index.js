// The JavaScript guest that goes through a shield, unless it runs there.
import { env } from "fastly:env";
import { Shield } from "fastly:shielding";

async function answer(req) {
  const shield = new Shield("fra");
  const path = new URL(req.url).pathname;
  if (shield.runningOn()) {
    const resp = await fetch(req, { backend: "origin" });
    const headers = new Headers(resp.headers);
    headers.append("x-ran", env("FASTLY_POP"));
    return new Response(resp.body, { status: resp.status, headers });
  }
  const backend = path === "/plain" ? shield.unencryptedBackend() : shield.encryptedBackend({ firstByteTimeout: 5000 });
  const resp = await fetch(req, { backend });
  const headers = new Headers(resp.headers);
  headers.append("x-ran", env("FASTLY_POP"));
  return new Response(resp.body, { status: resp.status, headers });
}

const unknown = () => { try { new Shield("nowhere"); return "known"; } catch (err) { return "unknown"; } };

addEventListener("fetch", e => e.respondWith(new URL(e.request.url).pathname === "/unknown" ? new Response(unknown()) : answer(e.request)));
