// The chat: one connection, several rooms, each with a view of its own.

import { RoomView } from "./chat-room.js";
import { at, connect, cut, isCut, make, mend, query } from "./shell.js";

const OPEN = "hubbub.rooms"; // of this tab
const FIRST = ["lobby", "chat:tea"];

const hub = connect({ storage: sessionStorage });
const views = new Map(); // name → RoomView
let shown = null;

function remember() {
  sessionStorage.setItem(OPEN, JSON.stringify([...views.keys()]));
}

function enter(name) {
  if (!views.has(name)) {
    const view = new RoomView(hub, name, { changed: () => showRooms(), left: () => leave(name) });
    views.set(name, view);
    remember();
  }
  show(name);
}

function show(name) {
  shown?.hide();
  shown = views.get(name);
  shown.show();
  at("room-name").textContent = name;
  at("second-tab").href = `chat?${new URLSearchParams({ room: name })}`;
  document.title = `${name} · hubbub`;
  const url = new URL(location.href);
  url.searchParams.set("room", name);
  history.replaceState(null, "", url);
  showRooms();
}

function leave(name) {
  views.get(name)?.leave();
  views.delete(name);
  remember();
  if (shown?.name === name) show([...views.keys()][0] ?? (enter(FIRST[0]), FIRST[0]));
  else showRooms();
}

function showRooms() {
  const had = document.activeElement?.dataset?.room;
  at("rooms").replaceChildren(
    ...[...views.values()].map((view) => {
      const item = make("li", "room-item");
      const open = make("button", "open-room small", view.name);
      open.type = "button";
      open.dataset.room = view.name;
      if (view === shown) open.setAttribute("aria-current", "true");
      if (view.unread) {
        open.append(make("span", "unread", view.unread), make("span", "unseen", " unread"));
      }
      open.addEventListener("click", () => show(view.name));
      item.append(open);
      if (views.size > 1) item.append(leaveButton(view.name));
      return item;
    }),
  );
  if (had) at("rooms").querySelector(`[data-room="${CSS.escape(had)}"]`)?.focus();
}

function leaveButton(name) {
  const button = make("button", "leave-room small", "×");
  button.type = "button";
  button.setAttribute("aria-label", `Leave ${name}`);
  button.addEventListener("click", () => leave(name));
  return button;
}

at("add").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = at("add-room").value;
  at("add-room").value = "";
  enter(name);
  at("composer-text").focus();
});

// What is written

/** What is not taken stays where it was written. */
function say(text) {
  if (!text.trim() || shown.say(text)) at("composer-text").value = "";
}

at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  say(at("composer-text").value);
});
at("composer-text").addEventListener("input", () => shown.type());

// The connection

hub.on("state", ({ state }) => {
  at("cut").textContent = state === "connected" ? "Cut the connection" : "Reconnect now";
  at("send-and-cut").disabled = state !== "connected";
  for (const view of views.values()) view.linkChanged(state);
});
hub.on("published", (sent) => views.get(sent.room)?.published(sent));
hub.on("failed", (sent) => views.get(sent.room)?.failed(sent));

at("cut").addEventListener("click", () => {
  if (hub.state === "connected" && !isCut()) cut();
  else mend(hub);
});
at("send-and-cut").addEventListener("click", () => {
  say(at("composer-text").value || "Was I stored once?");
  cut();
  setTimeout(() => mend(hub), 2000);
});

function opened() {
  try {
    return JSON.parse(sessionStorage.getItem(OPEN)) ?? FIRST;
  } catch {
    return FIRST; // not ours
  }
}

for (const name of opened()) enter(name);
enter(query.get("room") || (views.has("lobby") ? "lobby" : [...views.keys()][0] ?? "lobby"));
