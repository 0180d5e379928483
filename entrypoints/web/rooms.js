// One hubbub room over one WebSocket (protocol v1): reconnects, resumes where it was, and publishes
// with keys, so that a message whose answer was lost can be sent again and is still stored once.
// It knows nothing of the page. Times are seconds unless a name says otherwise.
//
//   const client = new RoomClient("ws://localhost:8000/v1/ws", "lobby", { user: "ann" });
//   client.addEventListener("message", (event) => console.log(event.detail.seq, event.detail.data));
//   client.connect();
//   const { seq, duplicate } = await client.publish({ text: "hello" });
//
// Events (CustomEvent; what `detail` is):
//   state     {state, code, reason, retryAt}: connecting, live, waiting (until retryAt, in ms since
//             1970) or stopped (connect() starts again)
//   joined    the server's frame, once per connection, before the messages it brings
//   resync    the server's frame, before the messages it brings
//   message   the server's frame, with `replayed: true` if it came with `joined` or `resync`
//   presence  {members, count, change}: sorted names, or null in a crowded room; the `join` or
//             `leave` frame that led to it, or null
//   trouble   an `error` frame that answers nobody who waits
//   frame     {direction: "in" | "out", text}: everything on the wire

const CONNECT_TIMEOUT = 10;
const PING_SLACK = 10; // on top of the server's ping interval
const STABLE_AFTER = 5; // a connection that lived this long starts the backoff afresh
const KEY_LIFE = 280; // the server remembers a key for 300 s; sent again later it might be stored twice
const CUT = 4900; // our own close codes: outside the ranges in which the server speaks
const SILENT = 4901;

/** What a close code asks for: "stop", "backoff" or "at once". */
export function verdict(code) {
  if ([1000, 1007, 1009].includes(code) || (code >= 4000 && code < 4100)) return "stop";
  return code >= 4200 && code < 4300 ? "at once" : "backoff";
}

/** Full jitter between 0.5 s and a ceiling that doubles from 2 s to 20 s. */
export function backoff(attempt, random = Math.random) {
  return 0.5 + random() * (Math.min(20, 2 ** (attempt + 1)) - 0.5);
}

// crypto.randomUUID exists in secure contexts only; a page on a LAN address is none.
function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class RoomClient extends EventTarget {
  #url;
  #history;
  #socket = null;
  #ready = false; // the server has said `connected` on this socket
  #readySince = 0; // ms
  #silence = CONNECT_TIMEOUT; // how long the server may say nothing
  #farewell = null; // the `disconnect` frame, which comes just before a close
  #attempt = 0;
  #retry = 0; // timers
  #watchdog = 0;
  #unacknowledged = new Map(); // key → {data, firstSent (ms), resolve, reject}
  #members = null;
  #memberPages = null; // filled while the list is being asked for
  #version = 0;

  /** `user` empty: the server makes up a guest name, which is handed in again on every return. */
  constructor(url, room, { user = "", history = 50 } = {}) {
    super();
    this.#url = url;
    this.#history = history;
    this.room = room;
    this.user = user;
    this.position = null; // {log, seq}: the last message seen
  }

  /** Connect now, whatever the present state is. */
  connect() {
    this.#drop(1000, "replaced");
    const url = new URL(this.#url);
    if (this.user) url.searchParams.set("user", this.user);
    this.#socket = new WebSocket(url);
    this.#socket.onmessage = (event) => this.#receive(event.data);
    this.#socket.onclose = (event) => this.#lost(event.code, event.reason);
    this.#silence = CONNECT_TIMEOUT;
    this.#watch();
    this.#state("connecting");
  }

  /** Leave for good: everybody sees it at once. */
  close() {
    this.#drop(1000, "bye");
    this.#state("stopped", 1000, "left");
  }

  /** Lose the connection on purpose and stay away for so many seconds. */
  cut(seconds) {
    this.#drop(CUT, "cut on purpose");
    this.#wait(seconds, CUT, "cut on purpose");
  }

  /** Resolves to the `ack` frame once the message has its number, over as many connections as that
   *  takes. Rejects with the server's `error` frame, or with code `unknown` when the key is too old
   *  to be tried again. */
  publish(data) {
    return new Promise((resolve, reject) => {
      const key = randomKey();
      this.#unacknowledged.set(key, { data, firstSent: 0, resolve, reject });
      this.#transmit(key);
    });
  }

  #transmit(key) {
    const message = this.#unacknowledged.get(key);
    if (!message || !this.#ready) return;
    if (message.firstSent && Date.now() - message.firstSent > KEY_LIFE * 1000) {
      this.#settle(key)?.reject({ code: "unknown", message: "sent too long ago to try again" });
      return;
    }
    message.firstSent ||= Date.now();
    this.#send({ type: "publish", id: key, room: this.room, data: message.data, key });
  }

  #settle(key) {
    const message = this.#unacknowledged.get(key);
    this.#unacknowledged.delete(key);
    return message;
  }

  #receive(text) {
    this.#watch();
    this.#emit("frame", { direction: "in", text });
    const frame = JSON.parse(text);
    if (frame.type === "connected") this.#connected(frame);
    else if (frame.type === "disconnect") this.#farewell = frame;
    else if (frame.type === "error") this.#refused(frame);
    else if (frame.room !== this.room) return; // your personal room, "@" and your name
    else if (frame.type === "joined") this.#joined(frame);
    else if (frame.type === "resync") this.#replay("resync", frame);
    else if (frame.type === "message") this.#message(frame);
    else if (frame.type === "ack") this.#settle(frame.id)?.resolve(frame);
    else if (frame.type === "join" || frame.type === "leave") this.#change(frame);
    else if (frame.type === "presence") this.#snapshot(frame);
    else if (frame.type === "members") this.#memberPage(frame);
    else if (frame.type === "removed") this.#stop(4003, frame.reason);
  }

  #connected(frame) {
    this.user = frame.user_id;
    this.#ready = true;
    this.#readySince = Date.now();
    this.#silence = frame.ping_interval + PING_SLACK;
    this.#watch();
    this.#join();
    // They take effect after the join: the server keeps the order of commands on one room.
    for (const key of [...this.#unacknowledged.keys()]) this.#transmit(key);
  }

  #join() {
    // With a position the history is asked for as well: it is what a `reset` brings.
    const from = { position: this.position ?? undefined, history: this.#history };
    this.#send({ type: "join", id: "join", room: this.room, ...from });
  }

  #joined(frame) {
    this.#version = -1;
    this.#replay("joined", frame);
    this.#snapshot(frame);
    this.#state("live");
  }

  #replay(name, frame) {
    this.position = frame.position;
    this.#emit(name, frame);
    for (const message of frame.messages) this.#emit("message", { ...message, replayed: true });
  }

  #message(frame) {
    // Ephemeral messages have no number.
    if (frame.seq) this.position = { log: frame.log ?? this.position.log, seq: frame.seq };
    this.#emit("message", frame);
  }

  #refused(frame) {
    const again = (frame.retry_after ?? backoff(0)) * 1000;
    if (this.#unacknowledged.has(frame.id)) {
      if (frame.retry) setTimeout(() => this.#transmit(frame.id), again);
      else this.#settle(frame.id).reject(frame);
    } else if (frame.id === "join") {
      const socket = this.#socket;
      if (frame.retry) setTimeout(() => this.#socket === socket && this.#join(), again);
      else this.#stop(4000, `${frame.code}: ${frame.message}`);
    } else {
      if (frame.id === "members") this.#memberPages = null;
      this.#emit("trouble", frame);
    }
  }

  #change(frame) {
    if (frame.version <= this.#version || !this.#members) return;
    if (frame.version > this.#version + 1) return this.#askMembers();
    this.#version = frame.version;
    if (frame.type === "join") this.#members.add(frame.user);
    else this.#members.delete(frame.user);
    this.#presence(frame.count, frame);
  }

  #snapshot(frame) {
    if (frame.version < this.#version) return;
    this.#version = frame.version;
    this.#members = frame.members ? new Set(frame.members.map((member) => member.user)) : null;
    this.#presence(frame.count, null);
  }

  #askMembers(after) {
    if (!after && this.#memberPages) return; // on its way already
    this.#memberPages ??= [];
    this.#send({ type: "members", id: "members", room: this.room, after });
  }

  #memberPage(frame) {
    const members = frame.members && [...this.#memberPages, ...frame.members];
    this.#memberPages = frame.more ? members : null;
    if (frame.more) this.#askMembers(members.at(-1).user);
    else this.#snapshot({ ...frame, members });
  }

  #presence(count, change) {
    this.#emit("presence", { members: this.#members && [...this.#members].sort(), count, change });
  }

  #lost(code, reason) {
    const farewell = this.#farewell;
    const cause = farewell?.code ?? code; // an aborted socket shows 1006 only
    if (this.#ready && Date.now() - this.#readySince > STABLE_AFTER * 1000) this.#attempt = 0;
    if (verdict(cause) === "stop") return this.#stop(cause, reason || farewell?.reason);
    const advised = farewell?.reconnect_after ?? 0;
    const atOnce = verdict(cause) === "at once" && this.#attempt === 0;
    const delay = atOnce ? advised : Math.max(advised, backoff(this.#attempt));
    this.#attempt += 1;
    this.#drop();
    this.#wait(delay, cause, reason || farewell?.reason);
  }

  #stop(code, reason) {
    this.#drop(1000, "bye");
    this.#state("stopped", code, reason);
  }

  #wait(seconds, code, reason) {
    this.#retry = setTimeout(() => this.connect(), seconds * 1000);
    this.#state("waiting", code, reason, Date.now() + seconds * 1000);
  }

  #watch() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      const silence = `nothing heard for ${this.#silence} s`;
      this.#drop(SILENT, silence);
      this.#lost(SILENT, silence);
    }, this.#silence * 1000);
  }

  #drop(code, reason) {
    clearTimeout(this.#retry);
    clearTimeout(this.#watchdog);
    this.#ready = false;
    this.#farewell = null;
    this.#memberPages = null;
    if (!this.#socket) return;
    this.#socket.onmessage = this.#socket.onclose = null; // a closing socket may still deliver
    if (code) this.#socket.close(code, reason);
    this.#socket = null;
  }

  #send(frame) {
    const text = JSON.stringify(frame);
    this.#socket.send(text);
    this.#emit("frame", { direction: "out", text });
  }

  #state(state, code = 0, reason = "", retryAt = 0) {
    this.#emit("state", { state, code, reason, retryAt });
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
