const $ = query => document.querySelector(query);
let resets = 0; // when the window ends, by this page's clock

// parameter reads one from a structured field with one member, such as "visitor";r=12;t=33;wedge-keeper="lhr".
function parameter(field, name) {
  const found = new RegExp(`;${name}=(?:"([^"]*)"|([0-9]+))`).exec(field || "");
  return found && (found[1] ?? found[2]);
}

function show(answer, took) {
  const field = answer.headers.get("RateLimit"), policy = answer.headers.get("RateLimit-Policy");
  const left = +parameter(field, "r"), of = +parameter(policy, "q"), keeper = parameter(field, "wedge-keeper");
  const pop = /Wedge-([^;, ]+)/.exec(answer.headers.get("Cache-Status") || "");
  if (pop) $("#pop").textContent = pop[1];
  $("#keeper").textContent = keeper || "nobody yet";
  $("#left").textContent = left;
  $("#of").textContent = `of ${of} requests left in ${parameter(policy, "w")} s`;
  $(".bar i").style.width = `${100 * left / of}%`;
  document.body.className = left <= of / 5 ? "low" : "";
  resets = Date.now() + 1000 * parameter(field, "t");
  const line = document.createElement("li");
  line.className = answer.ok ? "" : "no";
  line.innerHTML = "<b></b><span></span><span></span>";
  line.children[0].textContent = answer.ok ? "let in" : "refused";
  line.children[1].textContent = answer.ok ? `${left} left` : `come again in ${answer.headers.get("Retry-After")} s`;
  line.children[2].textContent = `${took.toFixed(took < 10 ? 1 : 0)} ms`;
  $("ol").prepend(line);
  while ($("ol").children.length > 30) $("ol").lastChild.remove();
}

async function ask() {
  const began = performance.now();
  try {
    const answer = await fetch("/ask", { cache: "no-store" });
    await answer.text();
    show(answer, performance.now() - began);
  } catch {
    $("#reset").textContent = "this PoP does not answer";
  }
}

$("#one").addEventListener("click", ask);
$("#five").addEventListener("click", () => { for (let i = 0; i < 5; i++) ask(); });
setInterval(() => {
  const left = Math.ceil((resets - Date.now()) / 1000);
  if (resets) $("#reset").textContent = left > 0 ? `all again in ${left} s` : "the window is over: all again";
}, 250);

fetch("/", { method: "HEAD" }).then(answer => {
  const pop = /Wedge-([^;, ]+)/.exec(answer.headers.get("Cache-Status") || "");
  $("#pop").textContent = pop ? pop[1] : "local";
});
