// A guest that serves several requests in one sandbox and counts them.
import { setReusableSandboxOptions } from "fastly:experimental";

setReusableSandboxOptions({ maxRequests: 3, betweenRequestTimeoutMs: 2000 });

let served = 0;
const born = Math.random();

addEventListener("fetch", e => e.respondWith(new Response(JSON.stringify({ served: ++served, born, path: new URL(e.request.url).pathname }))));
