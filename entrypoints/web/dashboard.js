// The dashboard: what came is kept, and drawn once a frame, however much of it there is.

import { Series, SPAN, path } from "./series.js";
import { at, connect, make } from "./shell.js";

const ROOM = "hubbub:stats";
const NOISE = "hubbub:noise";
const BURST = 5; // messages in each tenth of a second
const FREEZE = 5000; // ms
const [WIDTH, HEIGHT] = [400, 100];
const NODES = 32; // shown at most
const CHARTS = [
  { name: "published", title: "Messages published", unit: "a second", least: 10 },
  { name: "delivered", title: "Messages delivered", unit: "a second", least: 10 },
  { name: "sessions", title: "Connections", unit: "open", least: 10 },
  { name: "lag", title: "Event loop late by", unit: "ms", least: 10 },
];

const hub = connect();
const room = hub.join(ROOM, { history: 100 });
const nodes = new Map(); // name → Series
const counted = { received: 0, drawn: 0, skipped: 0 };
let chosen = null;
let behind = 0; // seconds that our clock is ahead of the server's
let due = false;

const figure = (value) => typeof value === "number" && Number.isFinite(value);

room.on("message", ({ ts, data, skipped = 0 }) => {
  if (!CHARTS.every(({ name }) => figure(data?.[name]))) return;
  const node = String(data.node);
  counted.received += 1;
  counted.skipped += skipped;
  behind = Date.now() / 1000 - ts;
  if (!nodes.has(node) && nodes.size < NODES) {
    nodes.set(node, new Series());
    chosen ??= node;
    showNodes();
  }
  nodes.get(node)?.add({ ts, ...data });
  draw();
});

/** A tab that cannot keep up draws the newest, not everything. */
function draw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    counted.drawn += 1;
    for (const [name, count] of Object.entries(counted)) at(name).textContent = count;
    const series = nodes.get(chosen);
    if (series?.last) for (const chart of charts) chart(series, Date.now() / 1000 - behind);
  });
}

function showNodes() {
  const choice = at("node-choice");
  choice.replaceChildren(...[...nodes.keys()].map((name) => new Option(name, name, false, name === chosen)));
  choice.hidden = nodes.size < 2;
  at("node").textContent = nodes.size < 2 ? `node ${chosen}` : `${nodes.size} nodes`;
}

at("node-choice").addEventListener("change", ({ target }) => {
  chosen = target.value;
  draw();
});

function svg(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** A card with its number and its curve; returns the function that draws it. */
function chart({ name, title, unit, least }) {
  const card = make("section", "chart sheet");
  card.id = `chart-${name}`;
  const number = make("span", "", "–");
  const now = make("p", "now");
  now.append(number, make("small", "", unit));
  const plot = make("div", "plot");
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const curves = svg("g", {});
  for (const y of [0, HEIGHT / 2, HEIGHT]) {
    picture.append(svg("path", { class: "grid", d: `M0 ${y}H${WIDTH}` }));
  }
  picture.append(curves);
  const topValue = make("span", "top-value", "");
  const ages = make("p", "ages");
  ages.append(make("span", "", `${SPAN} s ago`), make("span", "", "now"));
  plot.append(topValue, picture, ages);
  const heading = make("h2", "", title);
  card.append(heading, now, plot);
  at("charts").append(card);
  picture.setAttribute("aria-label", `${title}, the last two minutes`);

  return (series, time) => {
    const top = series.top(name, least);
    number.textContent = Math.round(series.last[name] * 10) / 10;
    topValue.textContent = top;
    curves.replaceChildren(
      ...series.runs(name, time, top).flatMap((run) => {
        const { curve, area } = path(run, WIDTH, HEIGHT);
        return [svg("path", { class: "area", d: area }), svg("path", { class: "curve", d: curve })];
      }),
    );
  };
}

const charts = CHARTS.map(chart);

// Something to see

let noise = null;

at("noise").addEventListener("click", () => {
  if (noise) {
    clearInterval(noise);
    noise = null;
    hub.rooms.get(NOISE)?.leave();
  } else {
    const own = hub.join(NOISE);
    own.on("removed", () => {});
    noise = setInterval(() => {
      for (let count = 0; count < BURST; count += 1) {
        own.publish({ noise: true }, { ephemeral: true }).catch(() => {});
      }
    }, 100);
  }
  at("noise").setAttribute("aria-pressed", String(noise !== null));
});

at("freeze").addEventListener("click", () => {
  const until = performance.now() + FREEZE;
  while (performance.now() < until); // on purpose: this is what a tab with too much to do is like
});

hub.on("state", ({ state }) => {
  if (state === "offline") at("node").textContent = "offline; the curve goes on from the room's log";
  else if (state === "connected" && nodes.size) showNodes();
});
