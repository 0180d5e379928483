// One room: its position in the log, what came after it, and who is there.

import { Emitter, HubbubError } from "./events.js";
import { Members } from "./members.js";

export class Room extends Emitter {
  position = null; // {log, seq} of what was shown last
  live = false; // joined on the present connection
  #hub;
  #history;
  #members;
  #asked = false;
  #resolve;
  #reject;
  #own = new Set(); // seqs of silent messages of ours that lie ahead of the position

  constructor(hub, name, { history = 0, position = null, onMessage } = {}) {
    super();
    this.#hub = hub;
    this.name = name;
    this.#history = history;
    this.position = position;
    if (onMessage) this.on("message", onMessage);
    const ask = (after, done, failed) => {
      const told = (error) => {
        if (!lost(error)) hub._trouble(error);
        failed();
      };
      hub._ask({ type: "members", room: name, after }, done, told);
    };
    this.#members = new Members(ask, (type, member) => this._emit(type, member));
    this._promise();
  }

  get members() {
    return this.#members.list;
  }

  get count() {
    return this.#members.count;
  }

  publish(data, options) {
    return this.#hub.publish(this.name, data, options);
  }

  history({ before, after, limit, log } = {}) {
    const seq = before ?? after;
    const frame = { type: "history", room: this.name, before, after, limit };
    frame.log = log ?? (seq === undefined ? undefined : this.position?.log);
    return new Promise((resolve, reject) => {
      const done = ({ log, messages, more }) => resolve({ log, messages, more });
      this.#hub._ask(frame, done, reject, { kept: true });
    });
  }

  /** Resolves once the server has taken us out, or there is no connection to be in by. */
  leave() {
    return new Promise((resolve, reject) => {
      if (this.#gone) return resolve(); // the membership there may be now is another's
      const entered = this.#asked;
      this.#drop(new HubbubError("left", `left ${this.name}`));
      if (entered) this.#depart(resolve, reject);
      else resolve();
    });
  }

  // For the client

  _enter() {
    if (this.#asked) return;
    this.#asked = true;
    if (this.name !== `@${this.#hub.user}`) return this.#ask();
    // The server has us in our personal room already: out first, it is one like any other. The
    // join waits for the answer: a leave that is refused for a while must not come after it.
    const out = () => this.#asked && !this.#gone && this.#ask();
    this.#depart(out, (error) => {
      this.#hub._trouble(error);
      out();
    });
  }

  #ask() {
    const frame = { type: "join", room: this.name };
    if (this.#history) frame.history = this.#history;
    if (this.position) frame.position = this.position;
    const joined = (reply) => this.#joined(reply);
    const failed = (error) => lost(error) || this.#end(error);
    this.#hub._ask(frame, joined, failed, { moot: () => this.#gone });
  }

  /** Put in by the server; if nobody is told of it, passed over. */
  _entered(frame, tell) {
    this.#asked = true;
    if (tell()) this.#joined(frame);
    else this.#hub.rooms.delete(this.name);
  }

  _pushed(frame) {
    if (frame.type === "removed") return this.#end(new HubbubError(frame.code, frame.reason));
    if (!this.live) return; // what was on its way before we joined
    if (frame.type === "message") this.#take(frame);
    else if (frame.type === "resync") this.#replay(frame);
    else if (frame.count !== undefined) this.#members.push(frame);
  }

  /** The ack of a silent message of ours stands in its place. */
  _placed(log, seq) {
    if (!this.live || log !== this.position.log || seq <= this.position.seq) return;
    this.#own.add(seq);
    this.#advance();
  }

  _lost() {
    this.live = this.#asked = false;
    this.#members.lost();
  }

  _closed(error) {
    this.#reject(error);
  }

  /** Of another beginning, after `closed`. */
  _promise() {
    this.joined = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.joined.catch(() => {}); // nobody need wait for it: `removed` and `state` tell as well
  }

  #depart(resolve = () => {}, reject = (error) => this.#hub._trouble(error)) {
    const failed = (error) =>
      lost(error) || error.code === "not_joined" ? resolve() : reject(error);
    // Repeated once the room is joined anew, it would end that membership.
    const moot = () => this.#gone && this.#hub.rooms.has(this.name);
    this.#hub._ask({ type: "leave", room: this.name }, () => resolve(), failed, { moot });
  }

  #drop(error) {
    if (this.#gone) return;
    this.live = false;
    this.#hub.rooms.delete(this.name);
    this.#reject(error);
    this.#hub._flush(); // what waited for the join
  }

  get #gone() {
    return this.#hub.rooms.get(this.name) !== this;
  }

  /** Out, and not by our wish. */
  #end(error) {
    this.#drop(error);
    if (!this._emit("removed", { code: error.code, reason: error.message })) {
      this.#hub._trouble(error);
    }
  }

  #joined(frame) {
    if (this.#gone) {
      if (!this.#hub.rooms.has(this.name)) this.#depart();
      return;
    }
    this.live = true;
    this.#replay(frame);
    if (this.#gone) return;
    this.#members.replace(frame);
    this.#resolve(this);
    const { messages, more, recovery } = frame;
    if (recovery.outcome === "ok") this._emit("recovered", { count: messages.length, more });
    this.#hub._flush();
  }

  /** `joined` and `resync`: how what follows fits to what was shown. */
  #replay({ recovery, messages, position }) {
    const { outcome } = recovery;
    this.#own.clear();
    if (outcome === "reset") this.#hub._forget(this.name);
    let seq = (messages[0]?.seq ?? 1) - 1;
    if (outcome === "ok") ({ seq } = this.position);
    if (outcome === "rewound") seq = recovery.valid_to;
    this.position = { log: position.log, seq };
    if (outcome !== "ok" && outcome !== "none") this._emit("gap", recovery);
    for (const message of messages) this.#take(message, true);
    this.position = position;
  }

  #take(message, replayed = false) {
    const { seq, skipped = 0, log = this.position.log } = message;
    if (seq) {
      const next = this.position.seq + 1;
      if (seq < next && log === this.position.log) return; // twice
      const missing = seq < next ? Infinity : seq - next - skipped;
      if (missing > 0 && missing > this.#silent(seq)) {
        if (!replayed) return this.#hub._cut("a hole in a room");
        this._emit("gap", { outcome: "gap", first: seq });
      }
    }
    if (this.#gone) return;
    this._emit("message", { ...message, room: this.name });
    if (!seq) return;
    this.position = { log, seq };
    this.#advance();
  }

  /** How many messages below `seq` may be silent ones of ours, which do not come. */
  #silent(seq) {
    const known = [...this.#own].filter((own) => own < seq).length;
    return known + this.#hub._silent(this.name);
  }

  #advance() {
    let { log, seq } = this.position;
    for (const own of this.#own) if (own <= seq) this.#own.delete(own);
    while (this.#own.delete(seq + 1)) seq += 1;
    this.position = { log, seq };
  }
}

/** Whether a command failed with its connection only. */
function lost({ code }) {
  return code === "offline" || code === "closed";
}
