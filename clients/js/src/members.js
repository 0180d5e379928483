// The members of one room, kept current by versions.

export class Members {
  list = null; // Map of name → {user, info, sessions}; null where nobody is listed
  count = null;
  version = null;
  #ask;
  #emit;
  #pages = null; // read so far, while the list is asked for
  #held = []; // what was pushed meanwhile

  /** `ask(after, done, failed)` reads a page; `emit` tells of join, leave and members. */
  constructor(ask, emit) {
    this.#ask = ask;
    this.#emit = emit;
  }

  /** The whole of it. Whoever came or went since the list before is told of. */
  replace({ members = null, count, version }) {
    const before = this.list;
    this.list = members && new Map(members.map((member) => [member.user, member]));
    this.count = count;
    this.version = version;
    this.#pages = null;
    const [old, now] = [before ?? this.list, this.list ?? before];
    for (const [user, member] of old ?? []) if (!now.has(user)) this.#emit("leave", member);
    for (const [user, member] of now ?? []) if (!old.has(user)) this.#emit("join", member);
    this.#emit("members");
  }

  /** `join`, `leave` or `presence`. */
  push(frame) {
    if (this.#pages) this.#held.push(frame);
    else if (this.version === null || frame.version <= this.version) return;
    else if (frame.type === "presence") this.replace(frame);
    else if (this.list && frame.version === this.version + 1) this.#apply(frame);
    else this.#read(frame);
  }

  /** The connection is gone: the next one begins with a whole list. */
  lost() {
    this.#pages = null;
    this.#held = [];
  }

  #apply({ type, user, info, count, version }) {
    this.count = count;
    this.version = version;
    const known = this.list.get(user);
    if (type === "join" && !known) {
      const member = { user, info, sessions: 1 };
      this.list.set(user, member);
      this.#emit("join", member);
    } else if (type === "leave" && known) {
      this.list.delete(user);
      this.#emit("leave", known);
    }
    this.#emit("members");
  }

  /** Something was missed. */
  #read(frame) {
    this.#pages = [];
    this.#held = [frame];
    let first;
    const page = (reply) => {
      first ??= reply;
      this.#pages.push(...(reply.members ?? []));
      if (reply.more) return this.#ask(reply.members.at(-1).user, page, failed);
      const held = this.#held;
      const { count, version } = first;
      this.replace({ members: reply.members && this.#pages, count, version });
      for (const change of held) this.push(change);
    };
    // Without the grant to read them: go on with what is told.
    const failed = () => {
      const held = this.#held;
      this.lost();
      for (const change of held) {
        if (this.list && change.type !== "presence") this.#apply(change);
        else this.replace(change);
      }
    };
    this.#ask(undefined, page, failed);
  }
}
