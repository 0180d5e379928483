// One text that several people write, settled by the order of a room. Pure: no page, no client.
//
// What is in the room, by seq:
//
//   {edit: {id, on, change}}        a change of the text as it was after message `on`
//   {begin: {text}}                 from here on the text is this
//   {snapshot: {log, seq, text}}    what the text was after message `seq`; changes nothing
//
// An edit counts if `on` is the last message that changed the text; all others are void. So the text
// is decided by the log alone, and everybody who reads it has the same. Whoever finds an edit of their
// own void makes it follow what came in between, and sends it again: of edits made at the same time
// one always counts.
//
// The log is bounded, so a newcomer reads the newest part only. With a snapshot of a message in it,
// or of the one before, everything after that message decides the text. Without one the text is not
// known here: somebody who knows it is asked for a snapshot, and if nobody does, it begins anew.

import { apply, compose, difference, fits, transform } from "./operation.js";

const SNAPSHOT_OWN = 40; // messages since the last snapshot, after which a writer adds one
const SNAPSHOT_ANY = 60; // … and everybody

export class SharedText {
  text = ""; // as shown: with the own changes that do not count yet
  known = false;
  again = 0; // edits that somebody else's came before
  #base = null; // the text as the log has it
  #version = null; // of the base: {log, seq}
  #seen = null; // the last message, {log, seq}
  #from = null; // every message from this seq on was given to us
  #window = []; // those, while the text is not known
  #sent = null; // {id, change, place?}: on its way, and not back yet
  #unsent = null;
  #made = 0;
  #snapshot = 0; // seq of the last one
  #limits;

  /** `name` is another for each tab. */
  constructor(name, { own = SNAPSHOT_OWN, any = SNAPSHOT_ANY } = {}) {
    this.name = name;
    this.#limits = { own, any };
  }

  /** Whether all changes made here count. */
  get settled() {
    return this.known && !this.#sent && !this.#unsent;
  }

  /** The seq of the message that changed the text last. */
  get version() {
    return this.#version?.seq ?? 0;
  }

  /** From this seq on every message of the log will be given to `receive`. */
  opens({ log, seq }) {
    if (this.#from !== null) return null;
    this.#from = seq;
    this.#seen = { log, seq: seq - 1 };
    this.#passed();
    // A text that was here before is not thrown away for an empty one.
    return seq === 1 && this.#base === null ? this.#know("", { log, seq: 0 }) : null;
  }

  /** Messages were lost to us, or no longer count: what comes next is given by `opens`. */
  gap() {
    this.known = false;
    this.#from = null;
    this.#window = [];
  }

  /** Somebody changed the text here, as shown. */
  edit(change) {
    this.text = apply(this.text, change);
    this.#unsent = this.#unsent ? compose(this.#unsent, change) : change;
  }

  /** What to publish now, or null. */
  next() {
    if (!this.known || this.#sent || !this.#unsent) return null;
    const id = `${this.name}.${++this.#made}`;
    this.#sent = { id, change: this.#unsent };
    this.#unsent = null;
    return { edit: { id, on: mark(this.#version), change: this.#sent.change } };
  }

  /** The edit will not come: it was refused. */
  lost({ edit }) {
    if (edit.id === this.#sent?.id) this.#again();
  }

  /** The edit has its place. Its message comes, unless that is in a part we missed. */
  placed({ edit }, { log, seq }) {
    if (edit.id !== this.#sent?.id) return;
    this.#sent.place = { log, seq };
    this.#passed();
  }

  /** A message of the room, in order. Returns the change of the shown text, or null. */
  receive({ log, seq, data }) {
    const opening = this.opens({ log, seq });
    this.#seen = { log, seq };
    if (data?.begin) this.#snapshot = seq;
    if (data?.snapshot) this.#snapshot = Math.max(this.#snapshot, data.snapshot.seq);
    if (this.known) return this.#fold({ log, seq, data }) ?? opening;
    this.#window.push({ log, seq, data });
    if (this.#window.length > 2 * this.#limits.any) this.#from = this.#window.shift().seq + 1;
    return this.#learn({ log, seq, data });
  }

  /** A snapshot for whoever asks for one. */
  snapshot() {
    if (!this.known) return null;
    this.#snapshot = this.#seen.seq;
    return { snapshot: { ...this.#version, text: this.#base } };
  }

  /** One that is due, so that newcomers find one in the newest part of the log; or null. */
  dueSnapshot() {
    const passed = this.known ? this.#seen.seq - this.#snapshot : 0;
    const { own, any } = this.#limits;
    return passed >= any || (passed >= own && this.#mine) ? this.snapshot() : null;
  }

  #mine = false; // the last message was an edit of ours that counts

  /** Nobody knows the text: begin with what is here. */
  begin() {
    return { begin: { text: this.#base ?? "" } };
  }

  #fold({ log, seq, data }) {
    this.#mine = false;
    if (isBegin(data)) return this.#know(data.begin.text, { log, seq });
    if (!data?.edit) return null;
    const { id, on, change } = data.edit;
    const own = id === this.#sent?.id;
    if (on !== mark(this.#version) || !fits(change, this.#base.length)) {
      if (own) this.#again();
      return null;
    }
    this.#base = apply(this.#base, change);
    this.#version = { log, seq };
    if (!own) return this.#follow(change);
    this.#sent = null;
    this.#mine = true;
    return null;
  }

  #learn(message) {
    const { log, seq, data } = message;
    if (isBegin(data)) {
      this.#settle(seq);
      return this.#know(data.begin.text, { log, seq });
    }
    if (!isSnapshot(data)) return null;
    const { snapshot } = data;
    if (snapshot.log !== log || snapshot.seq + 1 < this.#from || snapshot.seq >= seq) return null;
    this.#settle(snapshot.seq);
    const later = this.#window.filter((other) => other.seq > snapshot.seq);
    let shown = this.#know(snapshot.text, { log, seq: snapshot.seq });
    for (const other of later) {
      const change = this.#fold(other);
      if (change) shown = compose(shown, change);
    }
    return shown;
  }

  /** An edit of ours that came while the text was not known, up to this message. It counts if it was
   *  the first one made on our version; then it is part of the text that we are about to get. */
  #settle(upTo) {
    const came = (other) => other.seq <= upTo && other.data?.edit?.id === this.#sent?.id;
    if (!this.#sent || !this.#window.some(came)) return;
    const on = mark(this.#version);
    const first = this.#window.find((other) => other.data?.edit?.on === on);
    const { log, seq } = this.#version;
    if (first && came(first) && first.log === log && seq + 1 >= this.#from) {
      this.#base = apply(this.#base, this.#sent.change);
      this.#sent = null;
    } else {
      this.#again();
    }
  }

  /** From here on the text is known. Returns what that changes in the one shown. */
  #know(text, version) {
    const change = difference(this.#base ?? "", text);
    this.#base = text;
    this.#version = version;
    this.known = true;
    this.#window = [];
    return this.#follow(change);
  }

  /** Somebody else's change counts: ours follow it. */
  #follow(change) {
    let other = change;
    if (this.#sent) [other, this.#sent.change] = transform(other, this.#sent.change);
    if (this.#unsent) [other, this.#unsent] = transform(other, this.#unsent);
    this.text = apply(this.text, other);
    return other;
  }

  /** Whether the message that we wait for was missed: then the edit is made once more. */
  #passed() {
    const place = this.#sent?.place;
    if (!place || this.#from === null) return;
    if (place.log !== this.#seen.log || place.seq < this.#from) this.#again();
  }

  #again() {
    this.again += 1;
    const { change } = this.#sent;
    this.#sent = null;
    this.#unsent = this.#unsent ? compose(change, this.#unsent) : change;
  }
}

const mark = ({ log, seq }) => `${seq}@${log}`;
const isBegin = (data) => typeof data?.begin?.text === "string";
const isSnapshot = (data) =>
  typeof data?.snapshot?.text === "string" && Number.isSafeInteger(data.snapshot.seq);
