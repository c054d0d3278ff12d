const $ = query => document.querySelector(query);
const random = () => [...crypto.getRandomValues(new Uint32Array(3))].map(n => n.toString(36)).join("");

// The beacon of this page, once it has loaded.

function visitor() {
  try {
    return localStorage.visitor ||= random();
  } catch {
    return random(); // who keeps nothing is another one each time
  }
}

function device() {
  if (!matchMedia("(pointer: coarse)").matches) return "desktop";
  return Math.min(screen.width, screen.height) < 600 ? "phone" : "tablet";
}

function report() {
  const [timing] = performance.getEntriesByType("navigation");
  navigator.sendBeacon("/beacon", JSON.stringify({
    id: random(), visitor: visitor(), path: location.pathname, device: device(),
    ttfb: Math.round(timing.responseStart), load: Math.round(timing.loadEventEnd),
  }));
}
addEventListener("load", () => setTimeout(report)); // once loadEventEnd is known

// A hundred more, made up: pages differ, and so do devices.

const pages = { "/": [90, 8], "/shop": [160, 5], "/news": [120, 3], "/slow": [620, 1] };
const devices = { desktop: [1, 5], phone: [1.7, 4], tablet: [1.3, 1] };

function pick(of) {
  let n = Math.random() * Object.values(of).reduce((sum, [, weight]) => sum + weight, 0);
  return Object.keys(of).find(name => (n -= of[name][1]) < 0);
}

function madeUp() {
  const path = pick(pages), device = pick(devices);
  const load = pages[path][0] * devices[device][0] * Math.exp((Math.random() + Math.random() + Math.random() - 1.5) * 1.1);
  return JSON.stringify({ id: random(), visitor: random(), path, device, ttfb: Math.round(load / 3), load: Math.round(load) });
}
$("button").addEventListener("click", () => navigator.sendBeacon("/beacon", Array.from({ length: 100 }, madeUp).join("\n")));

// What has come of all of them.

const span = 300, step = 5; // seconds, as the service asks
const metric = (row, name) => row.metrics.find(m => m.name === name) || {};
const ms = n => n === undefined ? "" : Math.round(n).toLocaleString("en");

function svg(kind, attributes, text) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  if (text !== undefined) e.textContent = text;
  return e;
}

// round number above n, to end an axis with
function ceiling(n) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(n, 10)));
  return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find(m => m * unit >= n) * unit;
}

const width = 340, height = 130, left = 34, low = 112, high = 8;

function chart(rows, now, most) {
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "p50, p95 and p99 over five minutes" });
  const x = at => left + (width - left - 6) * (1 - (now - at) / span);
  const y = n => low - (low - high) * Math.min(n / most, 1);
  for (const share of [0, .5, 1]) {
    const n = most * share;
    picture.append(svg("line", { x1: left, x2: width - 6, y1: y(n), y2: y(n) }), svg("text", { x: left - 5, y: y(n) + 3, "text-anchor": "end" }, ms(n)));
  }
  for (const minutes of [4, 3, 2, 1, 0]) {
    picture.append(svg("text", { x: x(now - minutes * 60), y: height - 4, "text-anchor": minutes ? "middle" : "end" }, minutes ? `-${minutes} min` : "now"));
  }
  for (const p of ["p99", "p95", "p50"]) {
    let d = "", before = -span;
    for (const row of rows) { // a line ends where nobody came
      const point = `${x(row.at).toFixed(1)} ${y(metric(row, "load")[p] || 0).toFixed(1)}`;
      d += row.at - before > 4 * step ? `M${point}h.01` : `L${point}`;
      before = row.at;
    }
    picture.append(svg("path", { d, style: `stroke: var(--${p})` }));
  }
  return picture;
}

function charts(rows, here) {
  const now = Date.now() / 1000, pops = {};
  for (const row of rows) {
    row.at = Date.parse(row.start) / 1000 + step / 2;
    if (row.at > now - span) (pops[row.values[0]] ||= []).push(row);
  }
  pops[here] ||= [];
  const most = ceiling(Math.max(...rows.map(row => metric(row, "load").p99 || 0), 0));
  $(".charts").replaceChildren(...Object.keys(pops).sort().map(pop => {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    const name = document.createElement("b"), visits = document.createElement("small");
    name.textContent = pop;
    name.className = pop === here ? "here" : "";
    const count = ms(pops[pop].reduce((sum, row) => sum + row.count, 0));
    visits.textContent = count === "1" ? "1 visit" : `${count} visits`;
    caption.append(name, visits);
    figure.append(caption, chart(pops[pop], now, most));
    return figure;
  }));
}

function table(rows) {
  rows.sort((a, b) => a.values[0].localeCompare(b.values[0]) || a.values[1].localeCompare(b.values[1]));
  $("tbody").replaceChildren(...rows.slice(0, 60).map(row => {
    const line = document.createElement("tr"), load = metric(row, "load");
    for (const [text, kind] of [[row.values[0]], [row.values[1]], [ms(row.count)], [ms(load.p50), "p50"], [ms(load.p95), "p95"], [ms(load.p99), "p99"]]) {
      const cell = document.createElement("td");
      cell.textContent = text;
      cell.className = kind || "";
      line.append(cell);
    }
    return line;
  }));
}

function bars(list, items) {
  const most = Math.max(...items.map(([, n]) => n), 1);
  $(list).replaceChildren(...items.slice(0, 8).map(([name, n]) => {
    const line = document.createElement("li");
    const bar = document.createElement("i"), label = document.createElement("span"), count = document.createElement("b");
    bar.style.width = `${100 * n / most}%`;
    label.textContent = name || "(none)";
    count.textContent = ms(n);
    line.append(bar, label, count);
    return line;
  }));
}

function show(view) {
  const [, pop, age] = view.from.match(/pop="([^"]*)"; (?:age=([0-9.]+))?/) || [];
  const cut = age === undefined || age > 5;
  document.body.className = cut ? "cut" : "";
  $("#pop").textContent = pop;
  $("#age").textContent = age === undefined ? "alone" : `${age < 10 ? Number(age).toFixed(1) : Math.round(age)} s`;
  $("#agetext").textContent = age === undefined ? "" : "since the core said what others have";
  const others = age === undefined ? "what the others have it has not heard" : "those of the others are as they were";
  notice(cut ? `${pop} cannot reach the core. Its own visits go on; ${others}.` : "");
  const all = view.all[0];
  $("#count").textContent = all ? ms(all.count) : 0;
  $("#visitors").textContent = all ? ms(metric(all, "visitors").distinct || 0) : 0;
  charts(view.times, pop);
  table(view.pages);
  bars("#top", all ? (metric(all, "pages").top || []).map(f => [f.value, f.count]) : []);
  bars("#devices", view.devices.map(row => [row.values[0], row.count]));
}

function notice(text) {
  $("#notice").hidden = !text;
  $("#notice").textContent = text;
}

async function refresh() {
  try {
    const answer = await fetch("/api");
    if (!answer.ok) throw new Error(await answer.text());
    show(await answer.json());
  } catch (error) {
    notice(error.message);
  }
}

for (const a of document.querySelectorAll("nav a")) a.className = a.pathname === location.pathname ? "here" : "";
refresh();
setInterval(() => document.hidden || refresh(), 1000);
