const $ = query => document.querySelector(query);
const form = $("form");

for (let n = 1; n <= 100; n++) {
  const seat = document.createElement("button");
  seat.textContent = n;
  seat.addEventListener("click", () => buy(n));
  $(".seats").append(seat);
}

function notice(text) {
  $("#notice").hidden = !text;
  $("#notice").textContent = text;
}

function show(view) {
  const cut = view.age > 5;
  document.body.className = cut ? "cut" : "";
  $("#pop").textContent = view.pop;
  $("#left").textContent = view.left;
  $("#age").textContent = view.age < 0 ? "alone" : view.age < 10 ? `${view.age.toFixed(1)} s` : `${Math.round(view.age)} s`;
  $("#agetext").textContent = view.age < 0 ? "" : "behind, at most";
  $("#open").hidden = view.total > 0;
  $(".bar i").style.width = `${100 * view.sold / (view.total || 1)}%`;
  $(".bar b").style.width = `${100 * view.left / (view.total || 1)}%`;
  const held = Object.entries(view.held).map(([pop, n]) => `${n} at ${pop}`).join(", ");
  $("#key").textContent = view.total ? `${view.sold} of ${view.total} sold, ${view.left} this PoP may sell by itself` + (held ? `; shares: ${held}.` : ".") : "The sale is not open.";
  if (cut) notice(`${view.pop} cannot reach the others. It sells ${view.left} more by itself.`);
  else if ($("#notice").dataset.cut) notice("");
  $("#notice").dataset.cut = cut ? "yes" : "";
  [...$(".seats").children].forEach((seat, i) => {
    const who = view.plan[i + 1];
    seat.disabled = !!who;
    seat.title = who || `Seat ${i + 1}`;
    seat.textContent = who ? who.slice(0, 4) : i + 1;
    seat.className = who && who === form.name.value ? "mine" : "";
  });
  $("#sorrytitle").hidden = view.sorry.length === 0;
  $("ul").replaceChildren(...view.sorry.map(a => {
    const li = document.createElement("li");
    li.textContent = `${a.who}, ${a.pop} gave you seat ${a.seat} while ${a.now || "another"} got it elsewhere. You have another one.`;
    return li;
  }));
}

async function ask(path, body) {
  try {
    const answer = await fetch(path, { method: body ? "POST" : "GET", body: body && JSON.stringify(body) });
    if (!answer.ok) throw new Error(await answer.text());
    show(await answer.json());
  } catch (error) {
    notice(error.message);
  }
}

function buy(seat) {
  if (form.reportValidity()) ask("/api/buy", { name: form.name.value, seat });
}

form.addEventListener("submit", event => {
  event.preventDefault();
  buy(0);
});
$("#open").addEventListener("click", () => ask("/api/open", {}));

ask("/api");
setInterval(() => document.hidden || ask("/api"), 1000);
