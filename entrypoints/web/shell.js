// What the pages share: who is in this tab, the one connection and how it is, and making elements.
// Everything that came from somebody else is shown through textContent.

import { Hubbub } from "../hubbub.js";
import { Cable } from "./cable.js";

const NAME = "hubbub.name"; // both for this tab only, so that two tabs can be two people
const TOKEN = "hubbub.token";

export const at = (id) => document.getElementById(id);
export const query = new URLSearchParams(location.search);
export const plural = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;
export const clock = (date, options = {}) =>
  date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false, ...options });

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}

/** One of six colours, the same for a name everywhere. */
export function tint(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 997;
  return sum % 6;
}

export function timeOf(ts) {
  const date = new Date(ts * 1000);
  const time = make("time", "time", clock(date));
  time.dateTime = date.toISOString();
  return time;
}

export function person(user, me) {
  const item = make("li", "person", user);
  item.dataset.tint = tint(user);
  if (user === me) item.append(make("span", "you", "you"));
  return item;
}

/** The client of this page: the name in `?user=` or the one chosen in this tab, else a guest. */
export function connect(options = {}) {
  if (query.get("user")) sessionStorage.setItem(NAME, query.get("user"));
  const user = sessionStorage.getItem(NAME) ?? undefined;
  const token = sessionStorage.getItem(TOKEN);
  const identity = token ? { getToken: () => token } : { user };
  const hub = new Hubbub("v1/ws", { ...identity, ...options, WebSocket: Cable });
  hub.on("state", (event) => showState(hub, event));
  hub.on("error", (error) => console.warn(error));
  at("who-user").value = user ?? "";
  at("who-token").value = token ?? "";
  at("token-field").hidden = !token;
  setInterval(countDown, 500);
  return hub;
}

/** As if the network went away, until `mend`. */
export function cut() {
  Cable.pull();
}

export function mend(hub) {
  Cable.pulled = false;
  hub.connect();
}

export const isCut = () => Cable.pulled;

let retryAt = 0;

// On a phone the links scroll sideways.
document.querySelector(".pages [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

function showState(hub, { state, code, reason, delay = 0 }) {
  document.documentElement.dataset.link = state;
  at("state").dataset.state = state;
  retryAt = Date.now() + delay * 1000;
  at("who-name").textContent = hub.user ?? "You";
  if (state === "connecting" && at("state").textContent.startsWith("Offline")) return;
  at("state").textContent = stateText(state, reason || code);
  if (state !== "closed" || code !== 4001) return;
  at("token-field").hidden = false;
  at("who").open = true;
}

function stateText(state, cause) {
  if (state === "closed") return `Ended: ${cause}`;
  if (state === "offline") return Cable.pulled ? "Offline: cut off" : "Offline, coming back";
  return state === "connected" ? "Connected" : "Connecting";
}

/** Shown, not told: a screen reader would speak every second. */
function countDown() {
  const seconds = Math.ceil((retryAt - Date.now()) / 1000);
  const waits = at("state").dataset.state === "offline" && !Cable.pulled && seconds > 0;
  at("who").title = waits ? `Next try in ${seconds} s` : "";
}

at("who-form").addEventListener("submit", (event) => {
  event.preventDefault();
  for (const [key, input] of [[NAME, at("who-user")], [TOKEN, at("who-token")]]) {
    const value = input.value.trim();
    if (value) sessionStorage.setItem(key, value);
    else sessionStorage.removeItem(key);
  }
  const url = new URL(location.href);
  url.searchParams.delete("user");
  if (url.href === location.href) location.reload();
  else location.replace(url);
});
addEventListener("keydown", ({ key }) => {
  if (key !== "Escape" || !at("who").open) return;
  at("who").open = false;
  at("who").querySelector("summary").focus();
});
