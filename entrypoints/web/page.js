// The page at "/": one room, and what its guarantees look like. Everything that came from somebody
// else is shown through textContent.

import { RoomClient } from "./rooms.js";

const AWAY = 20; // seconds that a cut lasts unless somebody presses the button earlier
const ROWS = 300;
const FRAMES = 50;
const FRAME_LENGTH = 600; // characters shown of one frame
const GUEST = "hubbub.guest"; // a reload of this tab remains the same guest

const at = (id) => document.getElementById(id);
const clock = (date) => date.toLocaleTimeString([], { hour12: false });
const plural = (n, one, many) => `${n} ${n === 1 ? one : many}`;

let client;
let state = { state: "connecting" };
let numbered = new Map(); // seq → row, of the current log
let outgoing = []; // {row, text, seq}: sent from this tab and not yet acknowledged, oldest first
let last = 0; // the last seq seen, which the next one must follow
let following = true; // the newest message is in view
let counted = { holes: 0, doubles: 0 };

function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

// ---- entering a room

function settings() {
  const hash = new URLSearchParams(location.hash.slice(1));
  return { room: hash.get("room") || "lobby", user: hash.get("user") || "" };
}

function enter() {
  const { room, user } = settings();
  client?.close();
  for (const list of ["rows", "here", "frame-rows"]) at(list).replaceChildren();
  numbered = new Map();
  outgoing = [];
  last = 0;
  following = true;
  counted = { holes: 0, doubles: 0 };
  showLedger();
  at("entry-room").value = room;
  at("entry-user").value = user;
  at("entry-user").placeholder = "guest";
  at("room-name").textContent = room;
  at("second-tab").href = `#${new URLSearchParams({ room })}`;
  document.title = `${room} · hubbub`;

  const url = new URL("v1/ws", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.hash = "";
  client = new RoomClient(url, room, { user: user || sessionStorage.getItem(GUEST) || "" });
  listen(client, !user);
  client.connect();
}

function listen(source, guest) {
  // A client that was replaced must not write into the room that followed it.
  const on = (name, handle) =>
    source.addEventListener(name, ({ detail }) => source === client && handle(detail));
  on("state", showState);
  on("joined", (frame) => {
    if (guest) {
      sessionStorage.setItem(GUEST, source.user);
      at("entry-user").placeholder = source.user;
    }
    replayed(frame);
  });
  on("resync", replayed);
  on("message", showMessage);
  on("presence", showPresence);
  on("trouble", (frame) => note(`The server refused: ${frame.message || frame.code}.`, "refused"));
  on("frame", showFrame);
}

at("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  const room = at("entry-room").value;
  const user = at("entry-user").value;
  const hash = `#${new URLSearchParams(user ? { room, user } : { room })}`;
  if (hash === location.hash) enter();
  else location.hash = hash;
});
addEventListener("hashchange", enter);

// ---- the connection

function showState(next) {
  const before = state;
  state = next;
  at("state").dataset.state = next.state;
  at("state-text").textContent = stateText(next);
  at("cut").textContent = next.state === "live" ? "Cut the connection" : "Reconnect now";
  at("send-and-cut").disabled = next.state !== "live";
  // Only what is said while we are here is read out; what was said before can be looked up.
  setTimeout(() => at("log").setAttribute("aria-live", state.state === "live" ? "polite" : "off"), 300);
  const cause = [next.reason, next.code && `code ${next.code}`].filter(Boolean).join(", ");
  if (next.state === "stopped") note(`The server ended this connection: ${cause}.`, "cut");
  else if (before.state === "live" && next.code === 4900) note(`Cut off after message ${last}.`, "cut");
  else if (before.state === "live") note(`Connection lost after message ${last}: ${cause}.`, "cut");
  for (const { row, seq } of outgoing) if (!seq) row.fate.textContent = fate();
  tick();
}

function stateText({ state, code, reason }) {
  if (state === "connecting") return "Connecting";
  if (state === "live") return "Connected";
  if (state === "stopped") return `Stopped: ${reason || code}`;
  return code === 4900 ? "Cut off, back in" : "Offline, trying again in";
}

function tick() {
  const seconds = Math.max(0, Math.ceil((state.retryAt - Date.now()) / 1000));
  at("state-clock").textContent = state.state === "waiting" ? `${seconds} s` : "";
}
setInterval(tick, 500);

at("cut").addEventListener("click", () => {
  if (state.state === "live") client.cut(AWAY);
  else client.connect();
});
at("send-and-cut").addEventListener("click", () => {
  say(at("composer-text").value || "Was I stored once?");
  at("composer-text").value = "";
  client.cut(AWAY / 10);
});
addEventListener("online", () => state.state === "waiting" && state.code !== 4900 && client.connect());

// ---- what came back after an absence

function replayed({ recovery, position, messages, more }) {
  const missed = more ? `more than ${messages.length} messages` : plural(messages.length, "message", "messages");
  const before = last;
  if (recovery.outcome === "none") {
    last = position.seq - messages.length;
    note(`You are in. The room stands at message ${position.seq}.`, "plain");
  } else if (recovery.outcome === "ok") {
    note(messages.length ? `Resumed: ${missed} missed, none lost.` : "Resumed: nothing missed.", "back");
  } else if (recovery.outcome === "gap") {
    last = recovery.first - 1;
    const gone = last - before;
    note(`Resumed with a gap: ${plural(gone, "message is", "messages are")} no longer kept. The rest follows.`, "cut");
  } else if (recovery.outcome === "rewound") {
    withdraw((seq) => seq > recovery.valid_to);
    last = recovery.valid_to;
    note(`The server withdrew what was above message ${last}. What is valid follows.`, "cut");
  } else {
    withdraw(() => true);
    last = position.seq - messages.length;
    note("The room has a new log: the old numbers no longer count.", "cut");
  }
  showLedger();
}

function withdraw(goes) {
  for (const [seq, row] of numbered) {
    if (!goes(seq)) continue;
    numbered.delete(seq);
    row.dataset.origin = "withdrawn";
    delete row.dataset.seq;
    row.fate.textContent = "no longer counts";
  }
}

function check({ seq, skipped = 0 }) {
  if (seq <= last) counted.doubles += 1;
  else if (seq > last + 1 + skipped) counted.holes += seq - last - 1 - skipped;
  last = Math.max(last, seq);
  showLedger();
}

function showLedger() {
  at("ledger-seq").textContent = last;
  for (const [name, count] of Object.entries(counted)) {
    at(`ledger-${name}`).textContent = count;
    at(`ledger-${name}`).dataset.bad = count > 0;
  }
}

// ---- messages

function showMessage(message) {
  if (!message.seq) return place(messageRow(message, "ephemeral"), Infinity);
  check(message);
  if (numbered.has(message.seq)) return; // its acknowledgement was faster
  const text = textOf(message.data);
  const own = message.from === client.user && outgoing.find((sent) => !sent.seq && sent.text === text);
  if (own) return number(own, message.seq, message.replayed ? "replayed" : "live");
  place(messageRow(message, message.replayed ? "replayed" : "live"), message.seq);
}

function textOf(data) {
  return typeof data?.text === "string" ? data.text : JSON.stringify(data);
}

function messageRow({ seq, from, ts, data }, origin) {
  const row = make("li", "row");
  row.dataset.origin = origin;
  row.dataset.own = from === client.user;
  row.dataset.tint = tint(from ?? "");
  const said = make("div", "said");
  const head = make("p", "head");
  const time = make("time", "time", clock(new Date(ts * 1000)));
  time.dateTime = new Date(ts * 1000).toISOString();
  row.fate = make("span", "fate", origin === "ephemeral" ? "not kept" : "");
  head.append(make("span", "who", from ?? "a backend"), time, row.fate);
  said.append(head, make("p", "text", textOf(data)));
  row.seq = make("span", "seq", seq || "·");
  row.append(row.seq, make("span", "rail", ""), said);
  return row;
}

function tint(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 997;
  return sum % 6;
}

/** Put a row where its number belongs; rows still without a number stay at the end. */
function place(row, seq) {
  const rows = at("rows");
  row.remove(); // an own row moves to its place once it has a number
  let before = null;
  for (let other = rows.lastElementChild; other; other = other.previousElementSibling) {
    const unsent = other.dataset.origin === "outgoing";
    if (!unsent && !(Number(other.dataset.seq) > seq)) break;
    before = other;
  }
  rows.insertBefore(row, before);
  if (Number.isFinite(seq)) {
    row.dataset.seq = seq;
    numbered.set(seq, row);
  }
  while (rows.childElementCount > ROWS) {
    numbered.delete(Number(rows.firstElementChild.dataset.seq));
    rows.firstElementChild.remove();
  }
  if (following || row.dataset.own === "true") scrollToEnd();
  else at("to-latest").hidden = false;
}

function note(text, tone) {
  const row = make("li", "note");
  row.dataset.tone = tone;
  row.append(make("span", "rail", ""), make("p", "text", text));
  place(row, Infinity);
  if (tone !== "plain") at("announcement").textContent = text;
}

// ---- own messages

function fate() {
  return state.state === "live" ? "sending" : "kept here, sent on return";
}

async function say(text) {
  const row = messageRow({ seq: 0, from: client.user || "you", ts: Date.now() / 1000, data: { text } }, "outgoing");
  const sent = { row, text, seq: 0 };
  row.seq.textContent = "…";
  row.dataset.own = "true";
  row.fate.textContent = fate();
  outgoing.push(sent);
  place(row, Infinity);
  try {
    stored(sent, await client.publish({ text }));
  } catch (error) {
    row.dataset.origin = "refused";
    row.fate.textContent = `not sent: ${error.message || error.code}`;
  } finally {
    outgoing = outgoing.filter((other) => other !== sent);
  }
}

/** The acknowledgement has come. The message itself may have come before it, or may follow. */
function stored(sent, { seq, duplicate }) {
  if (!sent.seq && numbered.has(seq)) sent.row.remove();
  else if (!sent.seq) number(sent, seq, "live");
  const row = numbered.get(seq);
  if (row) row.fate.textContent = duplicate ? "sent twice, stored once" : "stored";
}

function number(sent, seq, origin) {
  sent.seq = seq;
  sent.row.dataset.origin = origin;
  sent.row.seq.textContent = seq;
  place(sent.row, seq);
}

at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("composer-text").value;
  at("composer-text").value = "";
  if (text.trim()) say(text);
});

// ---- who is here

function showPresence({ members, count, change }) {
  at("here-count").textContent = count ?? "–";
  const names = members?.map((user) => {
    const item = make("li", "person", user);
    item.dataset.tint = tint(user);
    if (user === client.user) item.append(make("span", "you", "you"));
    return item;
  });
  const crowd = make("li", "person", count ? "Too many to list." : "Nobody is listed in this room.");
  at("here").replaceChildren(...(names ?? [crowd]));
  if (change && change.user !== client.user) {
    note(`${change.user} ${change.type === "join" ? "came in" : "left"}.`, "plain");
  }
}

// ---- the log's scrolling

function scrollToEnd() {
  at("log").scrollTop = at("log").scrollHeight;
  at("to-latest").hidden = true;
}

at("to-latest").addEventListener("click", () => {
  scrollToEnd();
  at("log").focus();
});
at("log").addEventListener("scroll", () => {
  const log = at("log");
  following = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  if (following) at("to-latest").hidden = true;
});
new ResizeObserver(() => following && scrollToEnd()).observe(at("log"));

for (const link of document.querySelectorAll("a.skip, a.inside")) {
  // Not by following the link: the room is in the address, and would be lost from it.
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const target = at(link.hash.slice(1));
    target.scrollIntoView();
    target.focus({ preventScroll: true });
  });
}

// ---- frames, and the lines to paste

function showFrame({ direction, text }) {
  const rows = at("frame-rows");
  const row = make("tr", direction);
  const now = new Date();
  const shown = text.length > FRAME_LENGTH ? `${text.slice(0, FRAME_LENGTH)} … ${text.length} characters` : text;
  row.append(
    make("td", "when", `${clock(now)}.${String(now.getMilliseconds()).padStart(3, "0")}`),
    make("td", "way", direction),
    make("td", "wire", shown),
  );
  rows.prepend(row);
  while (rows.childElementCount > FRAMES) rows.lastElementChild.remove();
}

for (const snippet of document.querySelectorAll(".snippet")) {
  const door = snippet.closest("tr").querySelector("th").textContent;
  const button = make("button", "copy", "Copy");
  button.type = "button";
  button.setAttribute("aria-label", `Copy the line for ${door}`);
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(snippet);
    // The clipboard is there in secure contexts only; elsewhere the line is at least selected.
    const copied = await navigator.clipboard?.writeText(snippet.textContent).then(() => true, () => false);
    button.textContent = copied ? "Copied" : "Selected";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  snippet.after(button);
}

enter();
