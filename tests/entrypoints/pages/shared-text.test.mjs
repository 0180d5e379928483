// The shared text converges, whatever the order in which things happen. Run by node --test.

import assert from "node:assert/strict";
import { test } from "node:test";
import { apply, compose, difference, fits, moved, transform } from "../../../entrypoints/web/operation.js";
import { SharedText } from "../../../entrypoints/web/shared-text.js";

const SEEDS = 400;

/** Numbers that look random and are the same each time (mulberry32). */
function dice(seed) {
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return { below: (n) => Math.floor(next() * n), chance: (p) => next() < p };
}

function someText(roll, most = 12) {
  const letters = ["a", "b", "c", " ", "\n", "é", "😀"];
  return Array.from({ length: roll.below(most) }, () => letters[roll.below(letters.length)]).join("");
}

/** A change as a person makes it: some characters out, some in, none cut in half. */
function someChange(roll, text) {
  const characters = [...text];
  const at = roll.below(characters.length + 1);
  const out = roll.chance(0.5) ? roll.below(Math.min(4, characters.length - at + 1)) : 0;
  characters.splice(at, out, ...someText(roll, 4));
  return difference(text, characters.join(""));
}

function seeds(body) {
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    try {
      body(dice(seed));
    } catch (error) {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    }
  }
}

test("a difference makes the one text of the other and cuts no character", () => {
  seeds((roll) => {
    const [before, after] = [someText(roll), someText(roll)];
    const change = difference(before, after);
    assert.ok(fits(change, before.length));
    assert.equal(apply(before, change), after);
    for (const part of change) if (typeof part === "string") assert.ok(part.isWellFormed());
  });
  assert.deepEqual(difference("😀", "😁"), ["😁", -2]);
});

test("two changes in one, and in either order", () => {
  seeds((roll) => {
    const text = someText(roll);
    const [first, second] = [someChange(roll, text), someChange(roll, text)];
    const then = someChange(roll, apply(text, first));
    assert.equal(apply(text, compose(first, then)), apply(apply(text, first), then));
    const [after, before] = transform(first, second);
    assert.ok(fits(after, apply(text, second).length));
    assert.equal(apply(apply(text, second), after), apply(apply(text, first), before));
  });
  const [after, before] = transform([1, "X"], [1, "Y"]);
  assert.equal(apply(apply("-", [1, "Y"]), after), "-XY");
  assert.equal(apply(apply("-", [1, "X"]), before), "-XY");
});

test("what is not a change of this text is seen", () => {
  const wrong = [null, {}, [2], [4], [3, ""], [3, 0], [1.5, 1.5], [-4], [3, null], ["x", 2, -2], [Infinity]];
  for (const change of wrong) assert.ok(!fits(change, 3), JSON.stringify(change));
  for (const change of [[3], [-3], ["x", 1, -2, "y"]]) assert.ok(fits(change, 3));
});

test("a place moves with the text before it", () => {
  assert.equal(moved(3, [1, "xx", 9]), 5);
  assert.equal(moved(3, [3, "xx", 9]), 3);
  assert.equal(moved(3, [1, -5, 1]), 1);
  assert.equal(moved(0, ["xx", 4]), 0);
});

/** A room: one log, of which the newest `kept` messages can be read. */
class Log {
  messages = [];
  name = "log1";

  constructor(kept) {
    this.kept = kept;
  }

  get top() {
    return this.messages.length;
  }

  get first() {
    return Math.max(1, this.top - this.kept + 1);
  }

  add(data) {
    const seq = this.top + 1;
    this.messages.push({ log: this.name, seq, data: JSON.parse(JSON.stringify(data)) });
  }

  restart() {
    this.messages = [];
    this.name += "'";
  }
}

/** Somebody in the room: reads when they please, and what they publish takes its time. */
class Writer {
  outbox = [];
  at = 0; // the last message read
  online = true;

  constructor(log, name) {
    this.log = log;
    this.doc = new SharedText(name, { own: 8, any: 12 });
    this.join();
  }

  join() {
    this.where = this.log.name;
    this.at = this.log.first - 1;
    this.told(this.doc.opens({ log: this.where, seq: this.at + 1 }));
  }

  shown = "";

  told(change) {
    if (change) this.shown = apply(this.shown, change);
    assert.equal(this.shown, this.doc.text, "what is told is what changes in the text shown");
  }

  write(change) {
    this.doc.edit(change);
    this.shown = apply(this.shown, change);
  }

  read() {
    if (this.where !== this.log.name || this.at + 1 < this.log.first) {
      this.doc.gap();
      this.join();
    }
    if (this.at === this.log.top) return false;
    this.told(this.doc.receive(this.log.messages[this.at]));
    this.at += 1;
    const due = this.doc.dueSnapshot();
    if (due) this.outbox.push(due);
    return true;
  }

  /** Something leaves; it may be the edit that became due. */
  publish() {
    const edit = this.doc.next();
    if (edit) this.outbox.push(edit);
    if (this.outbox.length === 0) return false;
    const data = this.outbox.shift();
    this.log.add(data);
    if (data.edit) this.doc.placed(data, { log: this.log.name, seq: this.log.top });
    return true;
  }
}

/** Until nobody has anything to say or to hear. */
function settle(writers) {
  for (let rounds = 0; ; rounds += 1) {
    assert.ok(rounds < 2000, "it comes to rest");
    let busy = false;
    for (const writer of writers) {
      while (writer.read()) busy = true;
      if (writer.publish()) busy = true;
    }
    if (busy) continue;
    const lost = writers.filter((writer) => !writer.doc.known);
    if (lost.length === 0) return;
    const knowing = writers.find((writer) => writer.doc.known);
    const answer = knowing ? knowing.doc.snapshot() : lost[0].doc.begin();
    (knowing ?? lost[0]).outbox.push(answer);
  }
}

function play(roll, writers, steps, each) {
  for (let step = 0; step < steps; step += 1) {
    const writer = writers[roll.below(writers.length)];
    if (!writer.online) writer.online = roll.chance(0.03);
    if (roll.chance(0.4) && writer.doc.known) writer.write(each(writer));
    else if (writer.online && roll.chance(0.5)) writer.read();
    else if (writer.online) writer.publish();
    if (writer.online && roll.chance(0.05)) writer.online = false;
  }
}

function same(writers) {
  const texts = new Set(writers.map((writer) => writer.doc.text));
  assert.equal(texts.size, 1, JSON.stringify([...texts]));
  for (const writer of writers) assert.ok(writer.doc.settled);
}

test("everybody ends with one text, latecomers and those who were away too", () => {
  seeds((roll) => {
    const log = new Log(16 + roll.below(20));
    const writers = [new Writer(log, "a"), new Writer(log, "b"), new Writer(log, "c")];
    for (const late of ["d", "e"]) {
      play(roll, writers, 60, (writer) => someChange(roll, writer.doc.text));
      writers.push(new Writer(log, late));
    }
    play(roll, writers, 60, (writer) => someChange(roll, writer.doc.text));
    settle(writers);
    same(writers);
  });
});

test("a log that begins anew takes the text along", () => {
  seeds((roll) => {
    const log = new Log(30);
    const writers = [new Writer(log, "a"), new Writer(log, "b"), new Writer(log, "c")];
    play(roll, writers, 40, (writer) => someChange(roll, writer.doc.text));
    settle(writers);
    const [{ doc }] = writers;
    const before = doc.text;
    const midway = roll.chance(0.5);
    const said = ({ doc }) => `<${doc.name}>`;
    if (midway) {
      for (const writer of writers) writer.write(difference(before, `${before}${said(writer)}`));
    }
    const spoke = midway ? [...writers] : [];
    if (midway) for (const { doc, outbox } of writers) outbox.push(...[doc.next()].filter(Boolean));
    log.restart();
    if (roll.chance(0.5)) settle(writers);
    if (roll.chance(0.3)) writers.push(new Writer(log, "d"));
    settle(writers);
    same(writers);
    for (const writer of spoke) {
      if (writers.length === 3) assert.equal(doc.text.split(said(writer)).length, 2, doc.text);
    }
    if (writers.length === 3 && !midway) assert.equal(doc.text, before);
    play(roll, writers, 40, (writer) => someChange(roll, writer.doc.text));
    settle(writers);
    same(writers);
  });
});

test("nothing that was written is lost or doubled", () => {
  seeds((roll) => {
    const log = new Log(1000);
    const writers = [new Writer(log, "a"), new Writer(log, "b"), new Writer(log, "c")];
    let words = 0;
    play(roll, writers, 150, (writer) => {
      const { text } = writer.doc;
      const at = roll.below(text.length / 4 + 1) * 4;
      return difference(text, `${text.slice(0, at)}${String(words++).padStart(3, "0")};${text.slice(at)}`);
    });
    settle(writers);
    same(writers);
    const found = writers[0].doc.text.split(";").slice(0, -1);
    assert.deepEqual(found.map(Number).sort((a, b) => a - b), [...Array(words).keys()]);
  });
});

test("an edit whose message was missed is made once more", () => {
  const log = new Log(4);
  const [away, busy] = [new Writer(log, "a"), new Writer(log, "b")];
  away.write(["mine"]);
  away.publish();
  for (let count = 0; count < 9; count += 1) {
    while (busy.read());
    busy.write(difference(busy.doc.text, `${busy.doc.text}!`));
    busy.publish();
  }
  settle([away, busy]);
  same([away, busy]);
  assert.ok(away.doc.text.includes("mine"));
});

test("a snapshot that does not fit to what was read is of no use", () => {
  const doc = new SharedText("x");
  const at = (seq, data) => doc.receive({ log: "l", seq, data });
  at(50, { edit: { id: "a.1", on: "40@l", change: [5, "!"] } });
  for (const data of [
    { snapshot: { log: "l", seq: 40, text: "hello" } }, // what came between is not here
    { snapshot: { log: "other", seq: 50, text: "hello" } },
    { snapshot: { log: "l", seq: 99, text: "hello" } },
    { snapshot: { log: "l", seq: "50", text: "hello" } },
    { snapshot: null },
    { begin: {} },
    { edit: null },
    "text",
    null,
  ]) {
    assert.equal(at(51, data), null);
    assert.ok(!doc.known);
  }
  at(52, { snapshot: { log: "l", seq: 49, text: "hello" } });
  assert.ok(doc.known);
  at(53, { edit: { id: "a.2", on: "49@l", change: [5, "?"] } });
  assert.equal(doc.text, "hello?");
  at(54, { edit: { id: "b.1", on: "49@l", change: [5, "void"] } });
  at(55, { edit: { id: "b.2", on: "53@l", change: [99, "void"] } });
  at(56, { edit: { id: "b.3", on: "53@l", change: "void" } });
  assert.equal(doc.text, "hello?");
});
