// The smaller parts of the pages that need no page. Run by node --test.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { DOORS, bytes, examples, hexadecimal } from "../../../entrypoints/web/doors.js";
import { SPAN, Series, path } from "../../../entrypoints/web/series.js";
import { TypingList } from "../../../entrypoints/web/typing.js";

test("a series keeps two minutes, in order, each second once", () => {
  const series = new Series();
  for (const ts of [1, 2, 2, 1, 3, 3 + SPAN]) series.add({ ts, value: ts });
  const runs = series.runs("value", 3 + SPAN, 200);
  assert.deepEqual(runs.map((run) => run.map(([x]) => x)), [[0], [1]]);
  assert.equal(series.last.ts, 3 + SPAN);
});

test("a curve breaks where nothing was told", () => {
  const series = new Series();
  for (const ts of [10, 11, 12, 40, 41]) series.add({ ts, value: 5 });
  assert.deepEqual(series.runs("value", 41, 10).map((run) => run.length), [3, 2]);
  assert.equal(series.runs("value", 41, 10)[0][0][1], 0.5);
});

test("the scale has a round top that holds everything", () => {
  const top = (...values) => {
    const series = new Series();
    values.forEach((value, ts) => series.add({ ts, value }));
    return series.top("value", 10);
  };
  assert.deepEqual([top(), top(3), top(10), top(11), top(21), top(99), top(1000), top(1001)], [
    10, 10, 10, 20, 50, 100, 1000, 2000,
  ]);
});

test("a run as a path", () => {
  const { curve, area } = path([[0, 0], [0.5, 1]], 100, 50);
  assert.equal(curve, "M0.0 50.0L50.0 0.0");
  assert.equal(area, "M0.0 50L0.0 50.0L50.0 0.0L50.0 50Z");
});

test("who is typing is told every two seconds and believed for four", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  let now = 0;
  const list = new TypingList(() => {}, () => now);
  const due = [0, 1000, 2000].map((time) => ((now = time), list.due()));
  assert.deepEqual(due, [true, false, true]);
  list.said();
  assert.ok(list.due());
  list.typing("ann");
  mock.timers.tick(3000);
  list.typing("bea");
  assert.equal(list.text, "ann and bea are typing");
  mock.timers.tick(1001);
  assert.equal(list.text, "bea is typing");
  list.typing("ann");
  list.typing("cleo");
  assert.equal(list.text, "3 people are typing");
  list.stop();
  assert.equal(list.text, "");
  mock.timers.reset();
});

test("every door has frames that can be sent, and bytes are read as such", () => {
  for (const door of DOORS) {
    assert.ok(door.path.startsWith("/") && door.about);
    assert.ok(examples(door).length > 0 || door.kind === "events", door.path);
    for (const [label, text] of examples(door)) {
      assert.ok(label);
      if (door.kind === "binary") assert.ok(bytes(text).length > 0);
    }
  }
  assert.deepEqual([...bytes("01 fF\n00")], [1, 255, 0]);
  for (const wrong of ["0", "zz", "0x01", "012"]) assert.equal(bytes(wrong), null);
  assert.equal(hexadecimal(Uint8Array.of(0, 171).buffer), "00 ab");
});
