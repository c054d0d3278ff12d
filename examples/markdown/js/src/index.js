// Markdown at the edge: every key stroke goes to this guest and comes back as HTML, before
// the next frame is drawn.
import { includeBytes } from "fastly:experimental";
import MarkdownIt from "markdown-it";

// All this happens when the guest is built: its start-up is part of the image that each
// request begins from.
const page = includeBytes("./src/index.html");
const markdown = new MarkdownIt({ html: false, linkify: false }); // raw HTML is shown as text; javascript: links are left out

// The engine compiles functions and regular expressions when they are first used. Using them
// here once means that requests find them compiled.
markdown.render(`# a *b* **c** \`d\` [e](https://f.g "h") ![i](j) <k@l.m> &amp; \\* ~~n~~ "o" -- ...

Setext
---

1. a
2. b
   - c

> d
> e

\`\`\`js
f
\`\`\`

    g

| a | b |
|---|--:|
| c | d |

* * *
hard  
break <b>raw</b> <https://n.o>

[p]: https://q.r
[p] and é\u{1f600}
`);

const maxText = 256 * 1024; // bytes that one request may ask to be rendered

addEventListener("fetch", event => event.respondWith(serve(event.request)));

async function serve(request) {
  const { pathname } = new URL(request.url);
  const { method } = request;
  if (pathname === "/" && (method === "GET" || method === "HEAD")) {
    return new Response(page, { headers: { "content-type": "text/html; charset=utf-8" } });
  }
  if (pathname === "/render" && method === "POST") {
    return render(request);
  }
  return text(404, "404 page not found");
}

async function render(request) {
  if (Number(request.headers.get("content-length")) > maxText) return text(413, "the text is too long");
  const body = await request.arrayBuffer();
  if (body.byteLength > maxText) return text(413, "the text is too long");
  return new Response(markdown.render(new TextDecoder().decode(body)), {
    headers: {
      "content-type": "text/html; charset=utf-8",
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
    },
  });
}

function text(status, message) {
  return new Response(message + "\n", { status, headers: { "content-type": "text/plain; charset=utf-8" } });
}
