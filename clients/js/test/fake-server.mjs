// A server in the test's hand: it sees every frame and says what the test tells it to, at once.
// Times are the test's own (mock timers), so nothing waits for a clock.

import assert from "node:assert/strict";
import { Hubbub } from "./subject.mjs";

/** What a WebSocket of a page does, as far as the client may rely on it. */
class FakeSocket {
  readyState = 0;
  sent = [];
  closed = null; // what the client closed it with

  constructor(url, protocols) {
    this.url = new URL(url);
    this.protocols = protocols;
    if ([protocols ?? []].flat().some((name) => !/^[\w.~!#$%&'*+^`|-]+$/.test(name))) {
      throw new SyntaxError("The subprotocol is invalid");
    }
  }

  send(text) {
    assert.notEqual(this.readyState, 0, "sent before it was open");
    if (this.readyState === 1) this.sent.push(JSON.parse(text));
  }

  close(code, reason = "") {
    assert(code === 1000 || (code >= 3000 && code < 5000), `a page may not close with ${code}`);
    assert(Buffer.byteLength(reason) <= 123);
    if (this.readyState < 2) this.closed = { code, reason };
    this.readyState = 3;
  }

  // The server's side

  open() {
    this.readyState = 1;
    this.onopen?.();
  }

  accept(fields = {}) {
    this.open();
    this.push({ type: "connected", session_id: "s", user_id: "ann", ping_interval: 25, ...fields });
  }

  push(...frames) {
    for (const frame of frames) this.onmessage?.({ data: JSON.stringify(frame) });
  }

  drop(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  /** The oldest frame of a type that the client sent, taken out. */
  take(type, fields = {}) {
    const index = this.sent.findIndex((frame) => frame.type === type);
    assert(index >= 0, `no ${type} among ${JSON.stringify(this.sent)}`);
    const [frame] = this.sent.splice(index, 1);
    assert.deepEqual({ ...frame, ...fields }, frame);
    return frame;
  }

  /** Let a join in: `position` is after `messages`, which are seqs. */
  admit(fields = {}) {
    const { room, id } = this.take("join");
    this.push(joined({ room, id, ...fields }));
    return id;
  }

  ack(publish, seq, fields = {}) {
    const { id, room } = publish;
    this.push({
      ...{ type: "ack", id, room, seq, log: "a", message_id: `m${seq}`, duplicate: false },
      ...fields,
    });
  }
}

export function joined({ seqs = [], at = seqs.at(-1) ?? 0, log = "a", outcome = "none", ...rest }) {
  const { first, valid_to, ...fields } = rest;
  return {
    position: { log, seq: at },
    recovery: { outcome, ...(first && { first }), ...(valid_to !== undefined && { valid_to }) },
    messages: seqs.map((seq) => said(seq)),
    more: false,
    members: null,
    count: null,
    version: null,
    ...fields,
    type: "joined",
  };
}

/** A message as `joined` and `history` hold them; a push with a room and `type`. */
export function said(seq, fields = {}) {
  return { seq, id: `m${seq}`, from: "bob", data: seq, ts: seq, ...fields };
}

export function push(room, seq, fields = {}) {
  return { type: "message", room, ...said(seq, fields) };
}

/** Let promises run; no time passes. */
export const settle = () => new Promise(setImmediate);

/** A client of a fake server, its connections, and everything it told of. */
export class World {
  connections = [];
  states = [];
  events = [];

  constructor(t, { random = 0.5, ...options } = {}, url = "ws://hub.test/v1/ws") {
    const { connections } = this;
    t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000_000 });
    const { now } = Date;
    t.mock.method(performance, "now", () => now()); // whatever `Date` is set to
    t.mock.method(Math, "random", () => random);
    this.timers = t.mock.timers;
    this.WebSocket = class extends FakeSocket {
      constructor(...target) {
        super(...target);
        connections.push(this);
      }
    };
    if (url) {
      this.hub = new Hubbub(url, { WebSocket: this.WebSocket, ...options });
      this.hub.on("state", (event) => this.states.push(event));
    }
  }

  /** The connection being made or used. */
  get socket() {
    return this.connections.at(-1);
  }

  /** Let so many seconds pass. */
  async pass(seconds) {
    this.timers.tick(seconds * 1000);
    await settle();
  }

  async connected(fields) {
    await settle();
    this.socket.accept(fields);
    return this.socket;
  }

  /** A room that was let in; its events are noted in `events` as [type, event]. */
  async room(name = "tea", options = {}, reply = {}) {
    const room = this.watch(this.hub.join(name, options));
    if (this.hub.state !== "connected") await this.connected();
    this.socket.admit(reply);
    return room;
  }

  watch(room) {
    for (const type of ["message", "join", "leave", "recovered", "gap", "removed"]) {
      room.on(type, (event) => this.events.push([type, type === "message" ? event.seq : event]));
    }
    return room;
  }

  /** The events noted since the last look. */
  seen() {
    return this.events.splice(0);
  }

  /** Lose the connection and come back. */
  async again(fields) {
    const before = this.connections.length;
    this.socket.drop();
    await this.pass(20);
    assert.equal(this.connections.length, before + 1);
    return this.connected(fields);
  }
}

/** A Storage, as pages have it. */
export class FakeStorage {
  #items = new Map();
  get length() {
    return this.#items.size;
  }
  key(index) {
    return [...this.#items.keys()].reverse()[index] ?? null; // no order is promised
  }
  getItem(name) {
    return this.#items.get(name) ?? null;
  }
  setItem(name, text) {
    this.#items.set(name, String(text));
  }
  removeItem(name) {
    this.#items.delete(name);
  }
}
