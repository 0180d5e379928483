// Notifications: the personal room of whoever is here, read on from where it was left.

import { at, connect, cut, make, mend, plural, timeOf, tint } from "./shell.js";

const SLEEP = 30_000; // ms
const SHOWN = 100;
const KEPT = 30; // notifications to begin with, where nothing is known of a visit before
const PEOPLE = "hubbub:people"; // whoever has this page open, so that names can be offered

const hub = connect({ storage: sessionStorage });
let mine = null;
let unread = 0;
let slept = false;
let waking = null;
let settled = false; // what comes now is new, not read from the log
let readTo = 0; // the seq up to which all is read
let returning = false; // there was a visit before

hub.on("state", ({ state }) => {
  at("sleep").textContent = state === "connected" ? "Sleep for 30 s" : "Wake up";
  if (state === "connected" && !mine) begin(hub.user);
  if (state !== "connected") settled = false;
});

/** A place per server and person, which outlives the tab. */
const shelf = (user) => `hubbub.place ${new URL("./", location.href).pathname} ${user}`;

function begin(user) {
  at("whose").textContent = user;
  const place = read(shelf(user));
  returning = place !== null;
  readTo = place?.read ?? 0;
  const position = place && { log: place.log, seq: place.seq };
  mine = hub.join(`@${user}`, { history: KEPT, position });
  mine.on("message", show);
  mine.on("recovered", ({ count, more }) => {
    if (!count) return;
    const came = `${more ? "More than " : ""}${plural(count, "notification")} came while you were away.`;
    note(slept ? came.replace("were away", "slept") : came, "back");
    slept = false;
  });
  mine.on("gap", ({ outcome, first }) => {
    if (outcome !== "gap") readTo = 0;
    if (outcome === "gap") note(`Some before number ${first} are no longer kept. The rest follows.`, "cut");
    else note("The server has a new log. What it has of you follows.", "cut");
  });
  mine.on("members", () => setTimeout(settle));
  mine.on("removed", ({ reason }) => note(reason, "cut"));
  mine.joined.then(() => place && recall(), () => {});
  meet();
}

function settle() {
  settled = mine.live;
  if (!returning) readTo = mine.position?.seq ?? 0; // what was there before the first visit is not new
  returning = true;
  keep();
}

/** What was shown on an earlier visit, below what is new. */
async function recall() {
  const first = at("notes").querySelector("[data-seq]:last-child")?.dataset.seq;
  const before = Number(first ?? mine.position.seq + 1);
  try {
    const { messages } = await mine.history({ before, limit: KEPT });
    for (const message of messages.reverse()) {
      const fresh = message.seq > readTo;
      at("notes").append(row(message, fresh));
      if (fresh) unread += 1;
    }
    showBadge();
    if (messages.length) at("empty").hidden = true;
  } catch (error) {
    note(`What was here before cannot be had now: ${error.message}`, "cut");
  }
}

function keep() {
  if (!mine.position) return;
  localStorage.setItem(shelf(hub.user), JSON.stringify({ ...mine.position, read: readTo }));
}

function read(name) {
  try {
    const { log, seq, read = seq } = JSON.parse(localStorage.getItem(name));
    return typeof log === "string" && Number.isSafeInteger(seq) ? { log, seq, read } : null;
  } catch {
    return null; // nothing, or not ours
  }
}

function meet() {
  const people = hub.join(PEOPLE);
  people.on("members", () => {
    const names = [...(people.members?.keys() ?? [])].filter((user) => user !== hub.user);
    at("people").replaceChildren(...names.sort().map((user) => new Option(user)));
  });
  people.on("removed", () => {});
}

// The inbox

function show(message) {
  const fresh = settled || returning;
  put(row(message, fresh));
  if (fresh) unread += 1;
  queueMicrotask(keep); // the position counts this one a moment later
  showBadge();
}

function row({ seq, from, ts, data }, fresh) {
  const line = make("li", "note-row");
  const away = fresh && !settled && seq > (mine.position?.seq ?? 0);
  line.dataset.seq = seq;
  line.dataset.unread = String(fresh);
  line.dataset.away = String(away);
  const head = make("p", "head");
  const name = make("span", "from", from ?? "a backend");
  name.dataset.tint = tint(from ?? "");
  head.append(name, timeOf(ts));
  if (away) head.append(make("span", "away", "while you were away"));
  const text = typeof data?.text === "string" ? data.text : JSON.stringify(data);
  line.append(head, make("p", "text", text));
  return line;
}

function note(text, tone) {
  const line = make("li", "told", text);
  line.dataset.tone = tone;
  put(line);
}

function put(line) {
  const notes = at("notes");
  at("empty").hidden = true;
  notes.prepend(line);
  while (notes.childElementCount > SHOWN) {
    if (notes.lastElementChild.dataset.unread === "true") unread -= 1;
    notes.lastElementChild.remove();
  }
}

function showBadge() {
  at("badge").hidden = unread === 0;
  at("badge").textContent = unread ? `${unread} new` : "";
  at("read-all").disabled = unread === 0;
  document.title = `${unread ? `(${unread}) ` : ""}Notifications · hubbub`;
}

at("read-all").addEventListener("click", () => {
  for (const line of at("notes").children) if (line.dataset.unread) line.dataset.unread = "false";
  unread = 0;
  readTo = mine.position?.seq ?? 0;
  keep();
  showBadge();
  at("send-to").focus();
});

// Sending

at("send").addEventListener("submit", async (event) => {
  event.preventDefault();
  const to = at("send-to").value;
  const text = at("send-text").value;
  at("send-text").value = "";
  at("sent").textContent = hub.state === "connected" ? "Sending" : "Kept here, sent on return";
  try {
    const { seq } = await hub.publish(`@${to}`, { text });
    at("sent").textContent = `In the room of ${to}, with number ${seq}.`;
  } catch (error) {
    at("sent").textContent = `Not sent: ${error.message}`;
  }
});

// Sleeping

at("sleep").addEventListener("click", () => {
  if (hub.state !== "connected") return wake();
  slept = true;
  cut();
  waking = setTimeout(wake, SLEEP);
});

function wake() {
  clearTimeout(waking);
  mend(hub);
}
