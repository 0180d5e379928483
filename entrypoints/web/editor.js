// The editor: a text field, the shared text behind it, and where the others' cursors are.

import { difference, moved } from "./operation.js";
import { SharedText } from "./shared-text.js";
import { at, connect, cut, isCut, make, mend, person, plural, query, tint } from "./shell.js";

const NAME = query.get("text") ?? "notes";
const PATIENCE = 1000; // ms, for a snapshot that was asked for
const TRIES = 3;
const CURSORS = 100; // ms between two of ours
const FORGET = 30_000; // ms after which somebody's cursor is taken away
const MANY = 50; // cursors shown

const hub = connect();
const room = hub.join(`text:${NAME}`, { history: 100 });
const tab = crypto.randomUUID();
const doc = new SharedText(tab);
const field = at("text");
const cursors = new Map(); // tab → {from, place, timer}
let asks = null;
let answers = 0; // snapshots that came

at("second-tab").href = `editor?${new URLSearchParams({ text: NAME })}`;

// What the room says

room.on("message", ({ seq, from, data, ephemeral, log = room.position.log }) => {
  if (ephemeral) return data?.cursor ? heardCursor(from, data.cursor) : heardAsk(from, data);
  if (data?.snapshot) answers += 1;
  show(doc.receive({ log, seq, data }));
  proceed();
});
room.on("gap", () => {
  doc.gap();
  setTimeout(open);
});
room.on("members", () => {
  showMembers();
  setTimeout(open);
});
room.on("leave", ({ user }) => {
  for (const [key, { from }] of cursors) if (from === user) forget(key);
});
room.on("removed", ({ reason }) => tell(`Closed: ${reason}`));

/** All that the log still had has been given to us. */
function open() {
  if (!room.live) return;
  show(doc.opens({ log: room.position.log, seq: room.position.seq + 1 }));
  proceed();
}

/** Publish what is to be published, and ask for the text as long as it is not known. */
function proceed() {
  const data = doc.next();
  if (data) publish(data);
  const snapshot = doc.dueSnapshot();
  if (snapshot) room.publish(snapshot).catch(failed);
  if (!doc.known && room.live) askLater();
  if (doc.known) asks = stop(asks);
  showStanding();
}

async function publish(data) {
  try {
    doc.placed(data, await room.publish(data));
  } catch (error) {
    doc.lost(data);
    failed(error);
    if (error.retry || error.code === "unknown") proceed();
  }
}

function failed(error) {
  if (hub.state !== "closed") tell(`Not sent: ${error.message}`);
}

// Asking for a text that is not known

function askLater() {
  if (asks) return;
  let tries = 0;
  const ask = () => {
    if (!room.live) return;
    if (tries === TRIES || (tries > 0 && room.count === 1)) {
      asks = stop(asks);
      room.publish(doc.begin()).catch(failed);
    } else {
      room.publish({ ask: tab }, { ephemeral: true, echo: false }).catch(failed);
    }
    tries += 1;
  };
  asks = setInterval(ask, PATIENCE);
  ask();
}

function stop(timer) {
  clearInterval(timer);
  return null;
}

/** Of those who know it one answers at once, the others only if nobody did. */
function heardAsk(from, data) {
  if (!data?.ask || !doc.known) return;
  const first = [...(room.members?.keys() ?? [])].filter((user) => user !== from).sort()[0];
  const before = answers;
  const answer = () => doc.known && room.publish(doc.snapshot()).catch(failed);
  if (first === hub.user || first === undefined) answer();
  else setTimeout(() => before === answers && answer(), PATIENCE * (0.3 + Math.random() / 2));
}

// The text field

function show(change) {
  field.disabled = !doc.known && doc.text === "";
  if (!change) return;
  const { selectionStart, selectionEnd, selectionDirection, scrollTop } = field;
  const focused = document.activeElement === field;
  field.value = doc.text;
  if (focused) {
    field.setSelectionRange(moved(selectionStart, change), moved(selectionEnd, change), selectionDirection);
  }
  field.scrollTop = scrollTop;
  for (const cursor of cursors.values()) cursor.place = moved(cursor.place, change);
  showMirror();
}

field.addEventListener("input", () => {
  const value = field.value.toWellFormed?.() ?? field.value;
  const change = difference(doc.text, value);
  doc.edit(change);
  if (field.value !== doc.text) field.value = doc.text;
  for (const cursor of cursors.values()) cursor.place = moved(cursor.place, change);
  showMirror();
  proceed();
  tellCursor();
});
document.addEventListener("selectionchange", () => document.activeElement === field && tellCursor());

/** The copy under the field: its text, and where the others are. */
function showMirror() {
  const text = doc.text;
  const places = [...cursors.values()].sort((a, b) => a.place - b.place);
  const parts = [];
  let from = 0;
  for (const { place, from: user } of places) {
    const here = Math.min(place, text.length);
    parts.push(text.slice(from, here));
    const caret = make("span", "caret");
    caret.dataset.name = user;
    caret.dataset.tint = tint(user);
    parts.push(caret);
    from = here;
  }
  // A last line without anything in it would have no height.
  at("mirror").replaceChildren(...parts, text.slice(from), "\u200b");
}

// Cursors

let cursorTimer = null;

function tellCursor() {
  cursorTimer ??= setTimeout(() => {
    cursorTimer = null;
    const cursor = { tab, place: field.selectionEnd };
    room.publish({ cursor }, { ephemeral: true, echo: false }).catch(failed);
  }, CURSORS);
}

function heardCursor(from, { tab: key, place }) {
  if (typeof key !== "string" || key === tab || !Number.isSafeInteger(place) || place < 0) return;
  if (!cursors.has(key) && cursors.size >= MANY) return;
  clearTimeout(cursors.get(key)?.timer);
  cursors.set(key, { from, place, timer: setTimeout(() => forget(key), FORGET) });
  showMirror();
}

function forget(key) {
  clearTimeout(cursors.get(key)?.timer);
  cursors.delete(key);
  showMirror();
}

// Beside the text

function showMembers() {
  const { members, count } = room;
  at("here-count").textContent = count ?? "–";
  const names = members && [...members.keys()].sort();
  at("here").replaceChildren(...(names?.map((user) => person(user, hub.user)) ?? []));
}

function tell(text) {
  if (at("standing").textContent !== text) at("standing").textContent = text;
}

function showStanding() {
  at("version").textContent = doc.version;
  at("again").textContent = doc.again;
  field.disabled = !doc.known && doc.text === "";
  if (hub.state !== "connected") tell(doc.settled ? "Offline" : "Offline, your changes are kept here");
  else if (!doc.known) tell("Asking the others for the text");
  else tell(doc.settled ? `Saved in the room, ${plural(doc.text.length, "character")}` : "Sending");
}

hub.on("state", ({ state }) => {
  at("cut").textContent = state === "connected" ? "Cut the connection" : "Reconnect now";
  showStanding();
});
at("cut").addEventListener("click", () => {
  if (hub.state === "connected" && !isCut()) cut();
  else mend(hub);
});
showMirror();
