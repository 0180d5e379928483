// The client: one connection, its commands and their answers, the token, and the rooms.

import { Emitter, HubbubError, after } from "./events.js";
import { Link, address } from "./link.js";
import { Outbox } from "./outbox.js";
import { Room } from "./room.js";

const LONGEST = 2 ** 31 - 1; // ms that a timer takes
const PAUSE = 1000; // ms at least from a token to the next, which may be the same
const offline = () => new HubbubError("offline", "there is no connection", true);
const closed = () => new HubbubError("closed", "the client is closed");

export class Hubbub extends Emitter {
  user = null;
  rooms = new Map();
  limits = {};
  #url;
  #getToken;
  #guest; // where the name of a guest is kept
  #link;
  #outbox;
  #range;
  #grace;
  #requests = new Map();
  #ids = 0;
  #token = null;
  #renewAt = Infinity; // ms since 1970: 80 % of the token's life
  #renewal;
  #fetching; // one for each getToken before connecting; the last one counts
  #forgiven = false; // for one expired token, until the next connection

  /** Connects at once. All options are described in hubbub.d.ts. */
  constructor(url, options = {}) {
    super();
    const { getToken, user, storage, backoff = [0.5, 20], grace = 10, WebSocket } = options;
    this.#url = address(url);
    if (this.#url.pathname === "/") this.#url.pathname = "/v1/ws";
    this.#getToken = getToken;
    this.#range = backoff;
    this.#grace = grace;
    this.user = user ?? this.#url.searchParams.get("user");
    const place = this.#url.origin + this.#url.pathname;
    if (!this.user && !getToken && !this.#url.searchParams.has("token")) {
      this.#guest = `hubbub guest ${place}`;
      this.user = session()?.getItem(this.#guest) ?? null;
    }
    this.#outbox = new Outbox(this, storage, `hubbub ${place}`);
    this.#link = new Link(
      {
        target: () => this.#target(),
        received: (frame) => this.#received(frame),
        changed: (event) => this.#changed(event),
        backoff: (tries) => this._backoff(tries),
        probe: () => this.#link.send('{"type":"ping"}'),
        pardons: (cause) => this.#pardons(cause),
      },
      WebSocket,
    );
    this.connect();
  }

  get state() {
    return this.#link.state;
  }

  /** What was published and not answered yet, oldest first. */
  get pending() {
    return this.#outbox.pending;
  }

  /** Begin again after `closed`. */
  connect() {
    if (this.state === "closed") for (const room of this.rooms.values()) room._promise();
    this.#link.start();
  }

  close() {
    this.#link.stop();
  }

  join(name, options = {}) {
    if (this.rooms.has(name)) throw new Error(`already in ${name}`);
    const room = new Room(this, name, options);
    this.rooms.set(name, room);
    if (this.state === "connected") room._enter();
    else if (this.state === "closed") room._closed(closed());
    return room;
  }

  async publish(room, data, { ephemeral = false, echo = true } = {}) {
    if (this.state === "closed") throw closed();
    const frame = { type: "publish", room, data };
    if (!echo) frame.echo = false;
    if (!ephemeral) return this.#outbox.add(frame);
    if (!this.#outbox.admits(room)) return null;
    frame.ephemeral = true;
    this._fits(JSON.stringify(frame));
    return new Promise((resolve, reject) => {
      const dropped = (error) => error.retry || error.code === "closed";
      const failed = (error) => (dropped(error) ? resolve(null) : reject(error));
      this._ask(frame, () => resolve(null), failed, { once: true });
    });
  }

  // For the other files

  /** `done` or `failed` is called in the turn of the reply. A `kept` command outlives the
   *  connection; one to be tried `once` is not repeated for an error that would allow it, nor one
   *  of which `moot()` says then that it would do harm: that fails as if the connection were lost. */
  _ask(frame, done, failed, { kept = false, once = false, moot } = {}) {
    if (kept && this.state === "closed") return failed(closed());
    if (!kept && this.state !== "connected") return failed(offline());
    const id = ++this.#ids;
    const text = JSON.stringify({ ...frame, id });
    this.#requests.set(id, { text, done, failed, kept, once, moot, tries: 0 });
    this.#repeat(id);
  }

  _send(text) {
    this.#link.send(text);
  }

  /** Throws for a frame that the server would not read. */
  _fits(text) {
    const limit = this.limits.frame_bytes ?? Infinity;
    if (text.length * 3 <= limit || new TextEncoder().encode(text).length <= limit) return;
    throw new HubbubError("message_too_large", `a frame holds ${limit} bytes`);
  }

  /** Whether publishing to a room need not wait for a join on its way. */
  _open(name) {
    return this.state === "connected" && (this.rooms.get(name)?.live ?? true);
  }

  _backoff(tries) {
    const [least, most] = this.#range;
    // A least of 0 is doubled as the usual one is; and a number has an end.
    const ceiling = 4 * (least || 0.5) * 2 ** Math.min(tries, 99);
    return least + Math.random() * (Math.min(most, ceiling) - least);
  }

  _cut(reason) {
    this.#link.cut(reason);
  }

  _flush() {
    this.#outbox.flush();
  }

  /** The room has another log, which knows nothing of the keys sent before. */
  _forget(room) {
    this.#outbox.forget(room);
  }

  _silent(room) {
    return this.#outbox.silent(room);
  }

  /** A failure that no promise tells of. */
  _trouble(error) {
    if (!this._emit("error", error)) console.error(error);
  }

  // The connection

  async #target() {
    const url = new URL(this.#url);
    if (!this.#getToken) {
      if (this.user) url.searchParams.set("user", this.user);
      return [url.href];
    }
    let token = this.#token;
    if (!token || Date.now() >= this.#renewAt) {
      const mine = (this.#fetching = {});
      token = await this.#fetch();
      // One that was waited for too long must not take the place of another's answer.
      if (mine === this.#fetching) [this.#token, this.#renewAt] = [token, Infinity]; // not known yet
    }
    return [url.href, ["hubbub.v1", `bearer.${token}`]];
  }

  async #fetch() {
    const token = await this.#getToken();
    if (token) return token;
    const error = new HubbubError("token_missing", "token_missing: getToken gave none");
    throw Object.assign(error, { close: 4001 });
  }

  #pardons({ code, reason }) {
    const expired = code === 4001 && String(reason).startsWith("token_expired");
    if (!expired || this.#forgiven || !this.#getToken) return false;
    return (this.#forgiven = true);
  }

  #changed(event) {
    if (event.state !== "connected" && event.state !== "connecting") this.#lost(event);
    this._emit("state", event);
  }

  #lost({ state, code, reason }) {
    clearTimeout(this.#renewal);
    this.#renewal = undefined;
    if (code === 4001 || code === 4101) this.#token = null;
    for (const room of this.rooms.values()) room._lost();
    this.#outbox.lost();
    const end = state === "closed" && new HubbubError("closed", `${code} ${reason}`);
    for (const [id, { kept, failed }] of this.#requests) {
      if (kept && !end) continue;
      this.#requests.delete(id);
      failed(end || offline());
    }
    if (!end) return;
    this.#outbox.end(end, code);
    for (const room of this.rooms.values()) room._closed(end);
  }

  #connected({ user_id: user, limits = {}, ping_interval: interval, expires_in: life }) {
    this.#forgiven = false;
    this.user = user;
    this.limits = limits;
    if (this.#guest) remember(this.#guest, user);
    this.#expires(life);
    this.#outbox.restore(user, limits);
    const kept = [...this.#requests.keys()];
    this.#link.established(interval + this.#grace);
    if (this.state !== "connected") return; // whoever was told has closed or cut it
    for (const room of this.rooms.values()) room._enter();
    for (const id of kept) this.#repeat(id);
    this.#outbox.flush();
  }

  #received(frame) {
    switch (frame.type) {
      case "connected":
        return this.#connected(frame);
      case "disconnect":
        return this.#link.farewell(frame);
      case "ack":
      case "error":
      case "history":
      case "joined":
      case "members":
        return this.#answered(frame);
      default:
        this.rooms.get(frame.room)?._pushed(frame);
    }
  }

  #answered(frame) {
    const error = frame.type === "error" && new HubbubError(frame.code, frame.message, frame.retry);
    if (this.#outbox.answered(frame, error)) return;
    const request = this.#requests.get(frame.id);
    if (!request) {
      if (frame.id === undefined) this.#unasked(frame, error);
    } else if (error.retry && !request.once) {
      const wait = frame.retry_after ?? this._backoff(request.tries++);
      // Many were refused together as a rule; they should not come back together.
      after(wait + Math.random() / 2, () => this.#repeat(frame.id));
    } else {
      this.#requests.delete(frame.id);
      if (error) request.failed(error);
      else request.done(frame);
    }
  }

  /** The server put us into a room, or refuses something that it could not read. */
  #unasked(frame, error) {
    if (error) return this._trouble(error);
    const { type, room: name } = frame;
    const known = this.rooms.get(name);
    if (type !== "joined" || name === `@${this.user}` || known?.live) return;
    // What is pushed from here on would be taken for that of another membership.
    if (known) return this.#link.cut("put into a room while joining it");
    const room = new Room(this, name);
    this.rooms.set(name, room);
    room._entered(frame, () => this._emit("entered", room));
  }

  #repeat(id) {
    const request = this.#requests.get(id);
    if (request?.moot?.()) {
      this.#requests.delete(id);
      request.failed(offline());
    } else if (request && this.state === "connected") this.#link.send(request.text);
  }

  // The token

  #expires(life) {
    clearTimeout(this.#renewal);
    this.#renewAt = Infinity;
    if (life === undefined || !this.#getToken) return;
    this.#renewAt = Date.now() + life * 800;
    this.#renewal = setTimeout(() => this.#renew(0), Math.min(Math.max(life * 800, PAUSE), LONGEST));
  }

  async #renew(tries) {
    const mine = this.#renewal; // another one, or none, once the connection is lost
    const again = (error) => {
      if (mine !== this.#renewal) return;
      this._trouble(error);
      this.#renewal = setTimeout(() => this.#renew(tries + 1), this._backoff(tries) * 1000);
    };
    let token;
    try {
      token = await this.#fetch();
    } catch (error) {
      return again(error);
    }
    if (mine !== this.#renewal) return;
    const renewed = ({ expires_in: life }) => {
      this.#token = token;
      this.#expires(life);
    };
    this._ask({ type: "auth", token }, renewed, again);
  }
}

/** Survives a reload and ends with the tab; not there outside of pages (Node has one for the whole
 *  process), or where they may not keep anything. */
function session() {
  try {
    return globalThis.document && globalThis.sessionStorage;
  } catch {
    return undefined;
  }
}

/** Where that is full, another name after a reload is no harm. */
function remember(name, text) {
  try {
    session()?.setItem(name, text);
  } catch {
    // no room
  }
}
