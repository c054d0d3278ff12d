const $ = query => document.querySelector(query);
const known = new Set();
let first = true;

function element(name, text) {
  const e = document.createElement(name);
  e.textContent = text;
  return e;
}

function row(entry) {
  const li = document.createElement("li");
  const by = element("small", `${entry.name}, ${new Date(entry.at).toLocaleTimeString()}`);
  by.append(element("i", entry.pop));
  li.append(element("p", entry.text), by);
  if (!first && !known.has(entry.id)) li.className = "new";
  known.add(entry.id);
  return li;
}

function show(view) {
  const cut = view.age > 5;
  document.body.className = cut ? "cut" : "";
  $("#pop").textContent = view.pop;
  $("#visits").textContent = view.visits;
  $("#age").textContent = view.age < 0 ? "alone" : view.age < 10 ? `${view.age.toFixed(1)} s` : `${Math.round(view.age)} s`;
  $("#agetext").textContent = view.age < 0 ? "" : "behind, at most";
  $("#notice").hidden = !cut;
  $("#notice").textContent = `${view.pop} cannot reach the others. It goes on taking entries; theirs come when it can.`;
  $("ol").replaceChildren(...view.entries.map(row));
  first = false;
}

async function ask(path, body) {
  try {
    const answer = await fetch(path, { method: body ? "POST" : "GET", body: body && JSON.stringify(body) });
    if (!answer.ok) throw new Error(await answer.text());
    show(await answer.json());
    return true;
  } catch (error) {
    document.body.className = "cut";
    $("#notice").hidden = false;
    $("#notice").textContent = error.message;
    return false;
  }
}

$("form").addEventListener("submit", async event => {
  event.preventDefault();
  const form = event.target;
  if (await ask("/api/entry", { name: form.name.value, text: form.text.value })) form.text.value = "";
});

ask("/api/visit", {});
setInterval(() => document.hidden || ask("/api"), 1000);
