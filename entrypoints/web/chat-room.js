// One room of the chat: its messages in order, what became of the own ones, who is there.

import { TypingList } from "./typing.js";
import { at, clock, make, person, plural, timeOf, tint } from "./shell.js";

const BEGIN = 30; // messages to start with, and in each page of earlier ones
const ROWS = 500;
const FATES = { sending: "sending", waiting: "kept here, sent on return" };

const refusal = ({ code, message }) =>
  code === "unknown" ? "perhaps sent, perhaps not" : `not sent: ${message}`;

export class RoomView {
  unread = 0;
  #hub;
  #room;
  #rows = document.createElement("ol"); // moved into the page while shown
  #numbered = new Map(); // seq → row, of the present log
  #outgoing = new Map(); // key → row: sent from here and not acknowledged
  #told = new Map(); // id → row: acknowledged, of messages that have not come yet
  #typing = new TypingList(() => this.#showTyping());
  #tell;
  #shown = false;
  #following = true; // the newest message is in view
  #state;
  #settled = false; // what comes now is live, not read from the log
  #fresh = "earlier"; // what is read from the log: there before us, or replayed to us
  #last = 0; // the last number seen
  #earlier = false; // the log goes further back than what is here
  #asking = false;

  /** `tell.changed` when the list of rooms should be drawn, `tell.left` when the server put us out. */
  constructor(hub, name, tell) {
    this.name = name;
    this.#hub = hub;
    this.#tell = tell;
    this.#state = hub.state;
    this.#rows.id = "rows";
    this.#room = hub.join(name, { history: BEGIN });
    this.#room.on("message", (message) => this.#message(message));
    this.#room.on("recovered", ({ count, more }) => this.#recovered(count, more));
    this.#room.on("gap", (gap) => this.#gap(gap));
    this.#room.on("members", () => {
      // Comes behind what was missed, and behind who came and went meanwhile.
      if (!this.#settled) setTimeout(() => this.#settle());
      if (this.#shown) this.#showMembers();
    });
    this.#room.on("join", ({ user }) => this.#came(user, "came in"));
    this.#room.on("leave", ({ user }) => this.#came(user, "left"));
    this.#room.on("removed", ({ reason }) => {
      at("announcement").textContent = `${name}: ${reason}`;
      tell.left();
    });
    this.#room.joined.then(() => this.#entered(), () => {});
    for (const { key, room, data } of hub.pending) if (room === name) this.#pend(key, data);
  }

  show() {
    this.#shown = true;
    this.unread = 0;
    at("rows").replaceWith(this.#rows);
    at("log").onscroll = () => this.#scrolled();
    at("to-latest").onclick = () => {
      this.#toEnd();
      at("log").focus();
    };
    at("earlier").onclick = () => this.#more();
    this.#showMembers();
    this.#showTyping();
    this.#showLast();
    this.#toEnd();
  }

  hide() {
    this.#shown = false;
  }

  leave() {
    this.#typing.stop();
    if (this.#hub.rooms.get(this.name) === this.#room) this.#room.leave();
  }

  /** Returns whether it was sent, or is kept to be sent. */
  say(text) {
    this.#typing.said();
    const data = { text };
    const known = new Set(this.#hub.pending.map(({ key }) => key));
    const published = this.#room.publish(data);
    const entry = this.#hub.pending.find(({ key }) => !known.has(key));
    if (entry) this.#pend(entry.key, data);
    published.catch((error) => entry || this.#refuse(data, error)); // else told by `failed`
    return Boolean(entry);
  }

  type() {
    if (this.#typing.due()) {
      this.#room.publish({ typing: true }, { ephemeral: true, echo: false }).catch(() => {});
    }
  }

  // What became of the own messages

  #pend(key, data) {
    const row = this.#own(data, "outgoing", this.#fate());
    this.#outgoing.set(key, row);
    this.#place(row, Infinity);
  }

  #refuse(data, error) {
    this.#place(this.#own(data, "refused", refusal(error)), Infinity);
  }

  #own(data, origin, fate) {
    const row = this.#row({ from: this.#hub.user ?? "you", ts: Date.now() / 1000, data }, origin);
    row.dataset.own = "true";
    row.fate.textContent = fate;
    return row;
  }

  #fate() {
    return this.#state === "connected" ? FATES.sending : FATES.waiting;
  }

  published({ key, data, position: { log, seq, id, duplicate } }) {
    const row = this.#outgoing.get(key);
    this.#outgoing.delete(key);
    if (!row) return;
    const fate = duplicate ? "sent twice, stored once" : "stored";
    const here = this.#numbered.get(seq);
    if (here && log === this.#room.position?.log) {
      row.remove(); // the message itself was faster
      here.fate.textContent = fate;
      return;
    }
    row.fate.textContent = fate;
    row.data = data;
    this.#told.set(id, row);
  }

  failed({ key, error }) {
    const row = this.#outgoing.get(key);
    this.#outgoing.delete(key);
    if (!row) return;
    row.dataset.origin = "refused";
    row.fate.textContent = refusal(error);
  }

  linkChanged(state) {
    const before = this.#state;
    this.#state = state;
    for (const row of this.#outgoing.values()) row.fate.textContent = this.#fate();
    // Only what is said while we are here is read out; what was said before can be looked up.
    if (state === "connected") return;
    this.#settled = false;
    if (this.#shown) at("log").setAttribute("aria-live", "off");
    if (before === "connected") {
      this.#note(`Connection lost after message ${this.#last}.`, "cut");
    }
  }

  // What the room says

  #message(message) {
    const { seq, id, from, data, ephemeral } = message;
    if (ephemeral && data?.typing) {
      if (from !== this.#hub.user) this.#typing.typing(from);
      return;
    }
    this.#typing.gone(from);
    const own = this.#told.get(id);
    this.#told.delete(id);
    if (own) this.#number(own, seq);
    else this.#place(this.#row(message, this.#settled ? "live" : this.#fresh), seq ?? Infinity);
    this.#last = seq ?? this.#last;
    this.#showLast();
    if (this.#shown) return;
    this.unread += 1;
    this.#tell.changed();
  }

  #settle() {
    this.#settled = this.#room.live;
    if (this.#shown && this.#settled) at("log").setAttribute("aria-live", "polite");
  }

  #number(row, seq) {
    row.dataset.origin = "live";
    row.seq.textContent = seq;
    this.#place(row, seq);
  }

  #entered() {
    this.#fresh = "replayed";
    this.unread = 0;
    this.#tell.changed();
    const oldest = Math.min(...this.#numbered.keys());
    this.#earlier = Number.isFinite(oldest) && oldest > 1;
    this.#showEarlier();
  }

  #recovered(count, more) {
    const missed = more ? `more than ${plural(count, "message")}` : plural(count, "message");
    const text = count ? `Back: ${missed} missed, none lost.` : "Back: nothing missed.";
    this.#note(text, "back", this.#room.position.seq - count);
  }

  #gap({ outcome, first, valid_to: valid }) {
    if (outcome === "gap") {
      this.#note(`Messages before ${first} are no longer kept. The rest follows.`, "cut");
    } else if (outcome === "rewound") {
      this.#withdraw((seq) => seq > valid);
      this.#note(`The server withdrew what was above message ${valid}.`, "cut");
    } else {
      this.#withdraw(() => true);
      this.#note("The room has a new log: the old numbers no longer count.", "cut");
    }
  }

  #withdraw(goes) {
    for (const [seq, row] of this.#numbered) {
      if (!goes(seq)) continue;
      this.#numbered.delete(seq);
      row.dataset.origin = "withdrawn";
      delete row.dataset.seq;
      row.fate.textContent = "no longer counts";
    }
  }

  #came(user, how) {
    if (!this.#settled || user === this.#hub.user) return;
    if (how === "left") this.#typing.gone(user);
    this.#note(`${user} ${how}.`, "plain");
  }

  // Rows

  #row({ seq, from, ts, data }, origin) {
    const row = make("li", "row");
    row.dataset.origin = origin;
    row.dataset.own = from === this.#hub.user;
    row.dataset.tint = tint(from ?? "");
    const said = make("div", "said");
    const head = make("p", "head");
    row.fate = make("span", "fate");
    head.append(make("span", "from", from ?? "a backend"), timeOf(ts), row.fate);
    const text = typeof data?.text === "string" ? data.text : JSON.stringify(data);
    said.append(head, make("p", "text", text));
    row.seq = make("span", "seq", seq ?? "…");
    row.append(row.seq, make("span", "rail"), said);
    return row;
  }

  /** Put a row where its number belongs; rows still without a number stay at the end. */
  #place(row, seq) {
    const rows = this.#rows;
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
      this.#numbered.set(seq, row);
    }
    while (rows.childElementCount > ROWS && this.#following) {
      this.#numbered.delete(Number(rows.firstElementChild.dataset.seq));
      rows.firstElementChild.remove();
      this.#earlier = true;
    }
    if (!this.#shown) return;
    if (this.#following || row.dataset.own === "true") this.#toEnd();
    else at("to-latest").hidden = false;
  }

  #note(text, tone, after = Infinity) {
    const row = make("li", "note");
    row.dataset.tone = tone;
    const line = make("p", "text", text);
    line.append(" ", make("span", "time", clock(new Date())));
    row.append(make("span", "rail"), line);
    this.#place(row, after);
    if (Number.isFinite(after)) this.#numbered.delete(after);
    delete row.dataset.seq;
    if (this.#shown && tone !== "plain") at("announcement").textContent = text;
  }

  // Earlier messages

  async #more() {
    if (this.#asking || !this.#earlier) return;
    this.#asking = true;
    const log = at("log");
    const before = Math.min(...this.#numbered.keys());
    try {
      const page = await this.#room.history({ before, limit: BEGIN });
      const height = log.scrollHeight - log.scrollTop;
      const rows = page.messages.map((message) => {
        const row = this.#row(message, "earlier");
        row.dataset.seq = message.seq;
        this.#numbered.set(message.seq, row);
        return row;
      });
      this.#rows.prepend(...rows);
      this.#earlier = page.more && rows.length > 0;
      if (this.#shown) log.scrollTop = log.scrollHeight - height; // what was read stays in place
    } catch (error) {
      this.#note(`Earlier messages cannot be had now: ${error.message}`, "refused");
    }
    this.#asking = false;
    this.#showEarlier();
  }

  #showEarlier() {
    if (this.#shown) at("earlier").hidden = !this.#earlier;
  }

  #scrolled() {
    const log = at("log");
    this.#following = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    if (this.#following) at("to-latest").hidden = true;
    if (log.scrollTop < 80 && log.scrollHeight > log.clientHeight) this.#more();
  }

  #toEnd() {
    at("log").scrollTop = at("log").scrollHeight;
    at("to-latest").hidden = true;
    this.#following = true;
    this.#showEarlier();
  }

  // Beside the messages

  #showLast() {
    if (this.#shown) at("last-seq").textContent = this.#last;
  }

  #showMembers() {
    const { members, count } = this.#room;
    at("here-count").textContent = count ?? "–";
    const names = members && [...members.keys()].sort();
    const crowd = make("li", "quiet", count ? "Too many to list." : "Nobody is listed in this room.");
    at("here").replaceChildren(...(names?.map((user) => person(user, this.#hub.user)) ?? [crowd]));
  }

  #showTyping() {
    if (this.#shown) at("typing").textContent = this.#typing.text;
  }
}
