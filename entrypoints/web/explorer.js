// The explorer: a WebSocket or an event stream, and a table of what went over it.

import { DOORS, bytes, examples, hexadecimal } from "./doors.js";
import { at, clock, connect, make } from "./shell.js";

const ROWS = 500;
const LENGTH = 4000; // characters shown of one frame
const EVENTS = ["message", "joined", "join", "leave", "presence", "resync", "removed", "disconnect", "error"];

connect(); // who is in this tab, as on the other pages; the frames below go their own way
let link = null; // what is open: {send?, close}
let last = null; // when something was on the wire last
let count = 0;

for (const [index, { name, path }] of DOORS.entries()) at("door").append(new Option(name ?? path, index));

const door = () => DOORS[at("door").value];

function choose() {
  const { about, path } = door();
  at("about").textContent = about;
  const base = new URL("./", location.href);
  const url = new URL(path.slice(1), base);
  if (door().kind !== "events") url.protocol = url.protocol.replace("http", "ws");
  at("address").value = url.href;
  const items = examples(door()).map(([label, text]) => {
    const button = make("button", "small", label);
    button.type = "button";
    button.addEventListener("click", () => (at("frame").value = text));
    const item = make("li");
    item.append(button);
    return item;
  });
  at("examples").replaceChildren(...items);
  at("frame").value = examples(door())[0]?.[1] ?? "";
}

at("door").addEventListener("change", choose);

// The connection

at("door-form").addEventListener("submit", (event) => {
  event.preventDefault();
  link?.close();
  last = null;
  try {
    link = door().kind === "events" ? openEvents(at("address").value) : openSocket(at("address").value);
    told("connecting", `Connecting to ${at("address").value}`);
  } catch (error) {
    told("lost", error.message);
  }
});
at("disconnect").addEventListener("click", () => link?.close());

function openSocket(address) {
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  const mine = { close: () => socket.close(1000), send: (data) => socket.send(data), binary: door().kind === "binary" };
  socket.onopen = () => mine === link && told("open", "Open");
  socket.onmessage = ({ data }) => {
    const text = typeof data === "string" ? data : hexadecimal(data);
    row("in", text, typeof data === "string" ? size(text) : data.byteLength);
  };
  socket.onclose = ({ code, reason, wasClean }) => {
    const why = code === 1006 ? "1006: refused before the upgrade, or lost" : `${code} ${reason}`.trim();
    closed(mine, `Closed with ${why}`, wasClean && code === 1000);
  };
  return mine;
}

function openEvents(address) {
  const source = new EventSource(address);
  const mine = {
    close: () => {
      source.close();
      closed(mine, "Closed", true);
    },
  };
  source.onopen = () => mine === link && told("open", "Open");
  for (const type of EVENTS) {
    source.addEventListener(type, (event) => {
      if (event.data === undefined) return;
      row("in", `${type} ${event.data}`, size(event.data));
    });
  }
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) closed(mine, "Refused", false);
    else if (mine === link) told("lost", "Lost, coming back");
  };
  return mine;
}

function closed(mine, text, well) {
  if (mine !== link) return;
  link = null;
  told(well ? "closed" : "lost", text);
}

function told(state, text) {
  at("link").dataset.state = state;
  at("link").textContent = text;
  at("send").disabled = state !== "open" || !link?.send;
  at("disconnect").disabled = state === "closed" || !link;
  row("note", text, null);
}

// Frames

at("frame-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!link?.send) return;
  const text = at("frame").value;
  const data = link.binary ? bytes(text) : text;
  at("hint").textContent = data === null ? "These are not bytes: two hexadecimal digits for each." : "";
  if (data === null) return;
  row("out", text, link.binary ? data.length : size(text));
  link.send(data);
});

at("tidy").addEventListener("click", () => {
  try {
    at("frame").value = JSON.stringify(JSON.parse(at("frame").value), null, 2);
    at("hint").textContent = "";
  } catch (error) {
    at("hint").textContent = `This is not JSON, which can be sent all the same: ${error.message}`;
  }
});

const size = (text) => new TextEncoder().encode(text).length;

function row(way, text, length) {
  const now = performance.now();
  const line = make("tr", way);
  const after = last === null ? "" : `+${(now - last).toFixed(now - last < 10 ? 1 : 0)} ms`;
  last = now;
  const cut = text.length > LENGTH ? `${text.slice(0, LENGTH)} … ${text.length} characters` : text;
  line.append(
    make("td", "when", clock(new Date(), { second: "2-digit", fractionalSecondDigits: 3 })),
    make("td", "after", after),
    make("td", "way", way === "note" ? "" : way),
    make("td", "size", length ?? ""),
    make("td", "what", cut),
  );
  at("frames").prepend(line);
  while (at("frames").childElementCount > ROWS) at("frames").lastElementChild.remove();
  if (way !== "note") at("count").textContent = count += 1;
}

at("clear").addEventListener("click", () => {
  at("frames").replaceChildren();
  at("count").textContent = count = 0;
  last = null;
});

choose();
