// What was published and is not acknowledged. A key makes each message happen once, however often
// it is sent: over reconnects and, with a storage, over reloads and in several tabs.

import { HubbubError, after } from "./events.js";

const KEY_LIFE = 290_000; // ms; the server knows a key for 300 s
const NOT_DONE = ["rate_limited", "unavailable", "over_capacity"];
const SHARE = 0.8; // of a burst: some of it may still be on its way when the server counts

export class Outbox {
  #hub;
  #storage;
  #place;
  #user = null;
  #entries = new Map(); // key → entry, oldest first
  #held = new Set(); // rooms that take nothing for a while
  #slow = new Set(); // rooms that refused something: one by one, in order and not in vain
  #made = 0;
  #bucket = null;
  #timer = null;

  /** `place` begins the names in the storage, of which there is one for each message: so tabs do
   *  not overwrite each other's. */
  constructor(hub, storage, place) {
    this.#hub = hub;
    this.#storage = storage;
    this.#place = place;
    this.#user = hub.user;
  }

  get pending() {
    return [...this.#entries.values()].map(({ key, room, data }) => ({ key, room, data }));
  }

  add(frame) {
    const key = randomKey();
    const { room, data } = frame;
    const text = JSON.stringify({ ...frame, id: key, key });
    this.#hub._fits(text);
    const silent = frame.echo === false;
    this.#made = Math.max(Date.now(), this.#made + 0.001); // orders those of one millisecond too
    const entry = { key, room, data, text, silent, made: this.#made, at: 0 }; // at: first sent
    return new Promise((resolve, reject) => {
      this.#save(entry);
      this.#entries.set(key, { ...entry, resolve, reject, sent: false, doubt: false, tries: 0 });
      if (this.#hub._open(room)) this.flush(); // or else nothing may go that might not before
    });
  }

  /** Whether something ephemeral may go now. */
  admits(room) {
    return this.#hub._open(room) && this.#bucket.take() === 0;
  }

  /** Send what may go. */
  flush() {
    if (this.#timer || this.#hub.state !== "connected") return;
    const busy = new Set();
    for (const entry of this.#entries.values()) {
      const { room } = entry;
      const full = this.#held.has(room) || (this.#slow.has(room) && busy.has(room));
      if (!entry.sent && (full || !this.#hub._open(room))) continue;
      busy.add(room);
      if (entry.sent) continue;
      const wait = this.#bucket.take();
      if (wait) return this.#pause(wait);
      this.#send(entry);
    }
  }

  #send(entry) {
    if (!this.#current(entry)) return;
    try {
      if (entry.at && Date.now() - entry.at > KEY_LIFE) {
        throw new HubbubError("unknown", "sent before, and too long ago to repeat it");
      }
      this.#hub._fits(entry.text);
      if (!entry.at) this.#save(Object.assign(entry, { at: Date.now() }));
    } catch (error) {
      return this.#failed(entry, error);
    }
    entry.sent = true;
    this.#hub._send(entry.text);
  }

  /** Returns whether the frame answers something published. */
  answered(frame, error) {
    const entry = this.#entries.get(frame.id);
    if (!entry) return false;
    if (!error) this.#done(entry, frame);
    else if (error.retry) this.#later(entry, error, frame.retry_after);
    else this.#failed(entry, error);
    if (this.#slow.has(entry.room)) this.flush();
    return true;
  }

  #done(entry, { log, seq, message_id: id, duplicate }) {
    const { key, room, data } = entry;
    this.#remove(entry);
    if (entry.silent) this.#hub.rooms.get(room)?._placed(log, seq);
    const position = { log, seq, id, duplicate };
    entry.resolve?.(position);
    this.#hub._emit("published", { key, room, data, position });
  }

  #failed(entry, error) {
    const { key, room, data } = entry;
    this.#remove(entry);
    entry.reject?.(error);
    const told = this.#hub._emit("failed", { key, room, data, error }) || entry.reject;
    if (!told) this.#hub._trouble(error);
  }

  #later(entry, { code }, advised) {
    const { room } = entry;
    entry.sent = false;
    if (!NOT_DONE.includes(code)) entry.doubt = true;
    if (!entry.doubt) entry.at = 0; // it is certainly not there, so its key does not age
    this.#slow.add(room);
    this.#held.add(room);
    const free = () => {
      this.#held.delete(room);
      this.flush();
    };
    after(advised ?? this.#hub._backoff(entry.tries++), free);
  }

  #pause(seconds) {
    const go = () => {
      this.#timer = null;
      this.flush();
    };
    this.#timer = after(seconds, go);
  }

  /** How many silent messages to a room may be in the log already without our knowing. */
  silent(room) {
    const entries = [...this.#entries.values()];
    return entries.filter((entry) => entry.silent && entry.sent && entry.room === room).length;
  }

  /** What was sent to a room so far cannot be repeated safely. */
  forget(room) {
    for (const entry of this.#entries.values()) {
      if (entry.room === room && entry.at) entry.at = 1;
    }
  }

  lost() {
    this.#slow.clear();
    for (const entry of this.#entries.values()) {
      entry.doubt ||= entry.sent;
      entry.sent = false;
    }
  }

  /** No more tries. What `close` left in the storage goes out at the next connection. */
  end(error, code) {
    for (const entry of this.#entries.values()) {
      if (!entry.resolve) continue; // of the storage: whoever wrote it may still send it
      const said = entry.doubt ? new HubbubError("unknown", error.message) : error;
      if (code === 1000 && entry.saved !== undefined) entry.reject(error);
      else this.#failed(entry, said);
    }
    this.#entries.clear();
  }

  /** A connection begins, as a user and within limits. */
  restore(user, { messages_per_second: rate = 0, messages_burst: burst = 0 }) {
    this.#bucket = new Bucket(rate, Math.max(1, burst * SHARE));
    if (this.#user !== null && this.#user !== user) this.#disown();
    this.#user = user;
    if (!this.#storage) return;
    const names = Array.from({ length: this.#storage.length }, (_, n) => this.#storage.key(n));
    const found = names
      .filter((name) => name.startsWith(this.#name("")))
      .map((name) => this.#load(name));
    const known = [...this.#entries.values()].filter((entry) => this.#current(entry));
    const all = [...found.filter((entry) => entry && !this.#entries.has(entry.key)), ...known];
    this.#entries = new Map(all.sort((a, b) => a.made - b.made).map((entry) => [entry.key, entry]));
  }

  /** What one user wrote is not sent as another. */
  #disown() {
    const error = new HubbubError("forbidden", "written as another user");
    for (const entry of this.#entries.values()) this.#failed(entry, error);
  }

  // The storage

  /** Look what other tabs did with an entry. Returns whether it is still to be sent. */
  #current(entry) {
    if (entry.saved === undefined) return true;
    const name = this.#name(entry.key);
    const stored = this.#storage.getItem(name) === null ? null : this.#load(name);
    if (!stored && !entry.resolve) return this.#entries.delete(entry.key), false;
    // Gone it was sent at an unknown time, with another time there it was sent then.
    const at = stored ? stored.at : entry.made;
    if (at === entry.saved) return true;
    entry.at = Math.min(entry.at || at, at);
    entry.saved = stored ? at : undefined;
    entry.doubt = true;
    return true;
  }

  #name(key) {
    return `${this.#place} ${this.#user} ${key}`;
  }

  #save(entry) {
    const { key, room, data, text, silent, made, at } = entry;
    // Until the user is known it could be restored for somebody else.
    if (!this.#storage || this.#user === null) return;
    const stored = JSON.stringify({ key, room, data, text, silent, made, at });
    this.#storage.setItem(this.#name(key), stored);
    entry.saved = at; // undefined: not stored
  }

  #load(name) {
    try {
      const entry = JSON.parse(this.#storage.getItem(name));
      if (name !== this.#name(entry.key) || !entry.text) throw new Error(`not understood: ${name}`);
      return { ...entry, saved: entry.at, sent: false, doubt: entry.at > 0, tries: 0 };
    } catch (error) {
      this.#storage.removeItem(name);
      this.#hub._trouble(error);
      return null;
    }
  }

  #remove({ key }) {
    this.#entries.delete(key);
    if (this.#user !== null) this.#storage?.removeItem(this.#name(key));
  }
}

/** Keeps to the server's rate, so that it need not refuse. */
class Bucket {
  #rate;
  #burst;
  #tokens;
  #at = Date.now();

  constructor(rate, burst) {
    this.#rate = rate;
    this.#burst = this.#tokens = burst;
  }

  /** 0 for a token taken, or the seconds until there is one. */
  take() {
    if (!this.#rate) return 0;
    const now = Date.now();
    const gained = (Math.max(0, now - this.#at) / 1000) * this.#rate;
    this.#at = now;
    this.#tokens = Math.min(this.#burst, this.#tokens + gained);
    if (this.#tokens < 1) return (1 - this.#tokens) / this.#rate;
    this.#tokens -= 1;
    return 0;
  }
}

// crypto.randomUUID exists in secure contexts only, and a page on a LAN address is none.
function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
