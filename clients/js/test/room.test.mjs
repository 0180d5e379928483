// Rooms: joining, positions, recovery, and what may not happen to seqs.

import assert from "node:assert/strict";
import { test } from "node:test";
import { World, joined, push, settle } from "./fake-server.mjs";
import { HubbubError } from "./subject.mjs";

test("join asks for history and shows it", async (t) => {
  const world = new World(t);
  const shown = [];
  const room = world.watch(
    world.hub.join("tea", { history: 50, onMessage: ({ seq }) => shown.push(seq) }),
  );
  const socket = await world.connected();
  assert.equal(room.live, false);
  const join = socket.take("join", { room: "tea", history: 50 });
  assert.equal("position" in join, false);
  socket.push(joined({ ...join, seqs: [41, 42] }));
  assert.equal(await room.joined, room);
  assert.equal(room.live, true);
  assert.deepEqual(shown, [41, 42]);
  assert.deepEqual(room.position, { log: "a", seq: 42 });
  socket.push(push("tea", 43));
  assert.deepEqual(shown, [41, 42, 43]);
  assert.deepEqual(room.position, { log: "a", seq: 43 });
});

test("messages name their room, however they came", async (t) => {
  const world = new World(t);
  const rooms = [];
  const onMessage = ({ room }) => rooms.push(room);
  await world.room("tea", { history: 1, onMessage }, { seqs: [1] });
  world.socket.push(push("tea", 2));
  assert.deepEqual(rooms, ["tea", "tea"]);
});

test("a room joined on a live connection is asked for at once", async (t) => {
  const world = new World(t);
  await world.connected();
  await world.room("tea");
  assert.deepEqual([...world.hub.rooms.keys()], ["tea"]);
});

test("a room joined in a listener of the state is asked for once", async (t) => {
  const world = new World(t);
  world.hub.on("state", ({ state }) => state === "connected" && world.hub.join("tea"));
  await world.connected();
  assert.equal(world.socket.sent.filter(({ type }) => type === "join").length, 1);
});

test("joining twice is a mistake that shows", async (t) => {
  const world = new World(t);
  await world.room("tea");
  assert.throws(() => world.hub.join("tea"), /already in tea/);
});

test("a stored position is handed in", async (t) => {
  const world = new World(t);
  const position = { log: "a", seq: 7 };
  world.watch(world.hub.join("tea", { position, history: 5 }));
  const socket = await world.connected();
  const join = socket.take("join", { position, history: 5 });
  socket.push(joined({ ...join, outcome: "ok", seqs: [8, 9] }));
  assert.deepEqual(world.seen(), [
    ["message", 8],
    ["message", 9],
    ["recovered", { count: 2, more: false }],
  ]);
});

test("every room is resumed from its position", async (t) => {
  const world = new World(t);
  const tea = await world.room("tea", {}, { at: 3 });
  await world.room("jam", {}, { at: 8, log: "b" });
  world.socket.push(push("jam", 9));
  const socket = await world.again();
  assert.equal(tea.live, false);
  const join = socket.take("join", { room: "tea", position: { log: "a", seq: 3 } });
  socket.take("join", { room: "jam", position: { log: "b", seq: 9 } });
  world.seen();
  socket.push(joined({ ...join, outcome: "ok", at: 3 }));
  assert.deepEqual(world.seen(), [["recovered", { count: 0, more: false }]]);
  assert.equal(tea.live, true);
});

test("more: what follows comes as messages", async (t) => {
  const world = new World(t);
  const room = await world.room("tea", {}, { at: 3 });
  const socket = await world.again();
  socket.admit({ outcome: "ok", seqs: [4, 5], more: true });
  socket.push(push("tea", 6), push("tea", 7));
  assert.deepEqual(world.seen(), [
    ["message", 4],
    ["message", 5],
    ["recovered", { count: 2, more: true }],
    ["message", 6],
    ["message", 7],
  ]);
  assert.equal(room.position.seq, 7);
});

test("a joined without messages may have more", async (t) => {
  const world = new World(t);
  const room = await world.room("tea", { history: 9 }, { seqs: [], at: 40, more: true });
  world.socket.push(push("tea", 41));
  assert.deepEqual(world.seen(), [["message", 41]]);
  assert.equal(room.position.seq, 41);
});

test("gap is told before the messages that follow it", async (t) => {
  const world = new World(t);
  const room = await world.room("tea", {}, { at: 3 });
  const socket = await world.again();
  socket.admit({ outcome: "gap", first: 200, seqs: [200, 201] });
  assert.deepEqual(world.seen(), [
    ["gap", { outcome: "gap", first: 200 }],
    ["message", 200],
    ["message", 201],
  ]);
  assert.equal(room.position.seq, 201);
});

test("rewound withdraws, then appends", async (t) => {
  const world = new World(t);
  const room = await world.room("tea", {}, { at: 50 });
  const socket = await world.again();
  socket.admit({ outcome: "rewound", valid_to: 40, seqs: [41, 42], log: "a.2" });
  assert.deepEqual(world.seen(), [
    ["gap", { outcome: "rewound", valid_to: 40 }],
    ["message", 41],
    ["message", 42],
  ]);
  assert.deepEqual(room.position, { log: "a.2", seq: 42 });
  socket.push(push("tea", 43));
  assert.deepEqual(world.seen(), [["message", 43]]);
});

test("what is missing above valid_to is told as well", async (t) => {
  const world = new World(t);
  await world.room("tea", {}, { at: 50 });
  const socket = await world.again();
  socket.admit({ outcome: "rewound", valid_to: 40, seqs: [43] });
  assert.deepEqual(world.seen(), [
    ["gap", { outcome: "rewound", valid_to: 40 }],
    ["gap", { outcome: "gap", first: 43 }],
    ["message", 43],
  ]);
});

test("reset begins afresh, with lower seqs too", async (t) => {
  const world = new World(t);
  const room = await world.room("tea", { history: 10 }, { at: 50 });
  const socket = await world.again();
  socket.take("join", { history: 10, position: { log: "a", seq: 50 } });
  socket.sent.push({ type: "join", room: "tea", id: 2 });
  socket.admit({ outcome: "reset", seqs: [1, 2], log: "b" });
  assert.deepEqual(world.seen(), [
    ["gap", { outcome: "reset" }],
    ["message", 1],
    ["message", 2],
  ]);
  assert.deepEqual(room.position, { log: "b", seq: 2 });
});

for (const [outcome, fields, seqs, expected] of [
  [
    "gap",
    { first: 60 },
    [60],
    [
      ["gap", { outcome: "gap", first: 60 }],
      ["message", 60],
    ],
  ],
  [
    "rewound",
    { valid_to: 40 },
    [41],
    [
      ["gap", { outcome: "rewound", valid_to: 40 }],
      ["message", 41],
    ],
  ],
  ["rewound", { valid_to: 40 }, [], [["gap", { outcome: "rewound", valid_to: 40 }]]],
  ["reset", { at: 3 }, [], [["gap", { outcome: "reset" }]]],
]) {
  test(`resync ${outcome} with ${seqs.length} messages, on a live connection`, async (t) => {
    const world = new World(t);
    const room = await world.room("tea", {}, { at: 50 });
    const at = seqs.at(-1) ?? fields.at ?? fields.valid_to;
    const frame = joined({ ...fields, room: "tea", outcome, seqs, at, log: "b" });
    world.socket.push({ ...frame, type: "resync" });
    assert.deepEqual(world.seen(), expected);
    assert.deepEqual(room.position, { log: "b", seq: at });
    world.socket.push(push("tea", at + 1));
    assert.deepEqual(world.seen(), [["message", at + 1]]);
  });
}

test("the first message of a new log names it", async (t) => {
  const world = new World(t);
  const room = await world.room("tea", {}, { at: 43 });
  world.socket.push(push("tea", 44, { log: "a.2" }), push("tea", 45));
  assert.deepEqual(room.position, { log: "a.2", seq: 45 });
});

test("ephemeral messages leave the position alone", async (t) => {
  const world = new World(t);
  const room = await world.room("tea", {}, { at: 3 });
  world.socket.push({ type: "message", room: "tea", ephemeral: true, from: "bob", data: 1, ts: 1 });
  assert.deepEqual(world.seen(), [["message", undefined]]);
  assert.equal(room.position.seq, 3);
});

test("a message is not shown twice", async (t) => {
  const world = new World(t);
  await world.room("tea", {}, { seqs: [1, 2] });
  world.socket.push(push("tea", 2), push("tea", 3), push("tea", 3), push("tea", 1));
  assert.deepEqual(world.seen(), [
    ["message", 1],
    ["message", 2],
    ["message", 3],
  ]);
  const socket = await world.again();
  socket.admit({ outcome: "ok", seqs: [2, 3, 4] });
  assert.deepEqual(world.seen(), [
    ["message", 4],
    ["recovered", { count: 3, more: false }],
  ]);
});

test("a hole is never shown: the connection is lost and resumed before it", async (t) => {
  const world = new World(t);
  const room = await world.room("tea", {}, { at: 3 });
  world.socket.push(push("tea", 5));
  assert.deepEqual(world.seen(), []);
  assert.equal(world.hub.state, "offline");
  assert.equal(room.position.seq, 3);
  await world.pass(20);
  (await world.connected()).take("join", { position: { log: "a", seq: 3 } });
});

test("a new log with seqs from before, and no word of it, is a hole too", async (t) => {
  const world = new World(t);
  await world.room("tea", {}, { at: 3 });
  world.socket.push(push("tea", 2, { log: "b" }));
  assert.deepEqual(world.seen(), []);
  assert.equal(world.hub.state, "offline");
});

test("a hole in what was recovered is told as a gap", async (t) => {
  const world = new World(t);
  await world.room("tea", {}, { at: 3 });
  const socket = await world.again();
  socket.admit({ outcome: "ok", seqs: [5, 6] });
  assert.deepEqual(world.seen().slice(0, 2), [
    ["gap", { outcome: "gap", first: 5 }],
    ["message", 5],
  ]);
});

test("in a conflating room a jump by skipped is no hole, any other is", async (t) => {
  const world = new World(t);
  const room = await world.room("load", {}, { at: 44 });
  world.socket.push(push("load", 52, { skipped: 7 }));
  assert.deepEqual(world.seen(), [["message", 52]]);
  assert.equal(room.position.seq, 52);
  world.socket.push(push("load", 56, { skipped: 2 }));
  assert.deepEqual(world.seen(), []);
  assert.equal(world.hub.state, "offline");
});

// Silent messages of ours: the ack stands in the place of the message

test("the ack of a silent message moves the position", async (t) => {
  const world = new World(t);
  const room = await world.room("tea", {}, { at: 3 });
  const published = room.publish(1, { echo: false });
  world.socket.ack(world.socket.take("publish", { echo: false }), 4);
  assert.equal((await published).seq, 4);
  assert.equal(room.position.seq, 4);
  world.socket.push(push("tea", 5));
  assert.deepEqual(world.seen(), [["message", 5]]);
});

test("also when it comes before the message below it", async (t) => {
  const world = new World(t);
  const room = await world.room("tea", {}, { at: 3 });
  room.publish(1, { echo: false });
  world.socket.ack(world.socket.take("publish"), 5);
  assert.equal(room.position.seq, 3);
  world.socket.push(push("tea", 4));
  assert.equal(room.position.seq, 5);
  world.socket.push(push("tea", 6));
  assert.deepEqual(world.seen(), [
    ["message", 4],
    ["message", 6],
  ]);
});

test("and when it comes after the message above it", async (t) => {
  const world = new World(t);
  const room = await world.room("tea", {}, { at: 3 });
  const published = room.publish(1, { echo: false });
  world.socket.push(push("tea", 5));
  world.socket.ack(world.socket.take("publish"), 4);
  assert.equal((await published).seq, 4);
  assert.equal(room.position.seq, 5);
  assert.equal(world.hub.state, "connected");
});

test("a hole larger than our silent messages is one", async (t) => {
  const world = new World(t);
  const room = await world.room("tea", {}, { at: 3 });
  room.publish(1, { echo: false }).catch(() => {});
  world.socket.push(push("tea", 6));
  assert.equal(world.hub.state, "offline");
});

// Leaving and being taken out

test("leave tells the server and is over", async (t) => {
  const world = new World(t);
  const room = await world.room("tea");
  const left = room.leave();
  const { id } = world.socket.take("leave", { room: "tea" });
  world.socket.push(push("tea", 1), { type: "ack", id, room: "tea" });
  await left;
  assert.deepEqual(world.seen(), []);
  assert.equal(world.hub.rooms.size, 0);
  (await world.again()).sent.forEach((frame) => assert.notEqual(frame.type, "join"));
});

test("leave while offline, or before it came in, needs no answer", async (t) => {
  const world = new World(t);
  const room = world.hub.join("tea");
  await room.leave();
  await assert.rejects(room.joined, { code: "left" });
  const jam = await world.room("jam");
  world.socket.drop();
  await jam.leave();
  await world.pass(20);
  assert.deepEqual((await world.connected()).sent, []);
});

test("a connection lost while leaving has left as well", async (t) => {
  const world = new World(t);
  const left = (await world.room("tea")).leave();
  world.socket.drop();
  await left;
});

test("leaving in a listener ends what it was told", async (t) => {
  const world = new World(t);
  const shown = [];
  const room = world.hub.join("tea", {
    onMessage({ seq }) {
      shown.push(seq);
      room.leave();
    },
  });
  (await world.connected()).admit({ seqs: [1, 2, 3] });
  assert.deepEqual(shown, [1]);
});

test("leaving and joining again shows nothing of before", async (t) => {
  const world = new World(t);
  const first = await world.room("tea", {}, { at: 3 });
  first.leave();
  world.watch(world.hub.join("tea"));
  world.socket.push(push("tea", 4));
  assert.deepEqual(world.seen(), []);
  world.socket.admit({ at: 5 });
  world.socket.push(push("tea", 6));
  assert.deepEqual(world.seen(), [["message", 6]]);
});

test("a refused join is told, and not asked again", async (t) => {
  const world = new World(t);
  const room = world.watch(world.hub.join("staff"));
  const refused = assert.rejects(room.joined, { name: "HubbubError", code: "not_granted" });
  const socket = await world.connected();
  const { id } = socket.take("join");
  socket.push({ type: "error", id, code: "not_granted", message: "no grant", retry: false });
  await refused;
  assert.deepEqual(world.seen(), [["removed", { code: "not_granted", reason: "no grant" }]]);
  assert.deepEqual((await world.again()).sent, []);
});

test("a refusal nobody listens for reaches the console", async (t) => {
  const world = new World(t);
  const logged = t.mock.method(console, "error", () => {});
  world.hub.join("staff");
  const socket = await world.connected();
  const { id } = socket.take("join");
  socket.push({ type: "error", id, code: "not_granted", message: "no grant", retry: false });
  assert.equal(logged.mock.calls[0].arguments[0].code, "not_granted");
});

test("a join that may succeed later is asked again", async (t) => {
  const world = new World(t);
  const room = world.hub.join("tea");
  const socket = await world.connected();
  const { id } = socket.take("join");
  const error = { type: "error", id, code: "rate_limited", message: "too fast", retry: true };
  socket.push({ ...error, retry_after: 2 });
  await world.pass(1.9);
  assert.deepEqual(socket.sent, []);
  await world.pass(0.7);
  socket.push({ ...error, code: "unavailable" });
  socket.take("join");
  await world.pass(2);
  socket.admit();
  assert.equal(room.live, true);
});

test("removed: out, and not back by itself", async (t) => {
  const world = new World(t);
  await world.room("tea");
  world.socket.push({ type: "removed", room: "tea", code: "kicked", reason: "by cleo" });
  assert.deepEqual(world.seen(), [["removed", { code: "kicked", reason: "by cleo" }]]);
  assert.equal(world.hub.rooms.size, 0);
  assert.deepEqual((await world.again()).sent, []);
});

test("a final close rejects joined; connect goes on with the room and its position", async (t) => {
  const world = new World(t);
  const room = world.hub.join("tea", { position: { log: "a", seq: 9 } });
  const refused = assert.rejects(room.joined, { code: "closed" });
  await settle();
  world.socket.drop(4001, "token_missing");
  await refused;
  world.hub.connect();
  (await world.connected()).admit({ outcome: "ok", at: 9 });
  await room.joined;
});

test("a room of a closed client says so, and is joined when the client begins again", async (t) => {
  const world = new World(t);
  await world.connected();
  world.socket.drop(4003, "forbidden");
  const room = world.hub.join("tea");
  await assert.rejects(room.joined, { code: "closed" });
  world.hub.connect();
  const { joined } = room;
  (await world.connected()).admit();
  assert.equal(await joined, room);
});

// The personal room

test("one's personal room becomes a room like any other", async (t) => {
  const world = new World(t);
  world.watch(world.hub.join("@ann", { history: 3 }));
  const socket = await world.connected();
  socket.push(joined({ room: "@ann", at: 6 }), push("@ann", 7));
  assert.deepEqual(world.seen(), [], "not before our own join");
  const { id } = socket.take("leave", { room: "@ann" });
  assert.deepEqual(socket.sent, [], "the join waits for the answer");
  socket.push({ type: "ack", id, room: "@ann" });
  socket.admit({ seqs: [6, 7] });
  socket.push(push("@ann", 8));
  assert.deepEqual(world.seen(), [
    ["message", 6],
    ["message", 7],
    ["message", 8],
  ]);
  const back = await world.again();
  back.push({ type: "ack", id: back.take("leave").id, room: "@ann" });
  back.take("join", { position: { log: "a", seq: 8 } });
});

const slower = ({ id }) => ({
  ...{ type: "error", id, code: "rate_limited", message: "too fast", retry: true },
  retry_after: 0.02,
});

test("a leave that is refused for a while does not come behind the join: one's own room", async (t) => {
  const world = new World(t);
  const room = world.hub.join("@ann");
  const socket = await world.connected();
  socket.push(slower(socket.take("leave")));
  assert.deepEqual(socket.sent, []);
  await world.pass(1);
  socket.push({ type: "ack", id: socket.take("leave").id, room: "@ann" });
  socket.admit({ room: "@ann" });
  await world.pass(10);
  assert.deepEqual([socket.sent, room.live], [[], true]);
});

test("one's own room left before the answer is not joined", async (t) => {
  const world = new World(t);
  const room = world.hub.join("@ann");
  const socket = await world.connected();
  const left = room.leave();
  for (const type of ["leave", "leave"]) {
    socket.push({ type: "ack", id: socket.take(type).id, room: "@ann" });
  }
  await left;
  assert.deepEqual(socket.sent, []);
});

test("nor behind the join of any other room that is joined anew", async (t) => {
  const world = new World(t);
  const left = (await world.room("tea")).leave();
  const room = world.hub.join("tea");
  world.socket.push(slower(world.socket.take("leave")));
  world.socket.admit();
  await world.pass(1);
  await left;
  assert.deepEqual([world.socket.sent, room.live], [[], true]);
});

test("a join that is refused for a while is not repeated for a room left meanwhile", async (t) => {
  const world = new World(t);
  const room = world.hub.join("tea");
  const socket = await world.connected();
  socket.push(slower(socket.take("join")));
  room.leave();
  socket.push({ type: "ack", id: socket.take("leave").id, room: "tea" });
  await world.pass(10);
  assert.deepEqual(socket.sent, []);
});

test("leaving by an old handle leaves the new membership alone", async (t) => {
  const world = new World(t);
  const old = await world.room("tea");
  world.socket.push({ type: "removed", room: "tea", code: "kicked", reason: "by cleo" });
  const room = await world.room("tea");
  await old.leave();
  assert.deepEqual([world.socket.sent, room.live], [[], true]);
});

test("closed and begun again by whoever hears of the connection, it joins its rooms", async (t) => {
  const world = new World(t);
  const room = world.hub.join("tea");
  const stop = world.hub.on("state", ({ state }) => {
    if (state !== "connected") return;
    stop();
    world.hub.close();
    world.hub.connect();
    room.publish(1);
  });
  await world.connected();
  const socket = await world.connected();
  socket.admit();
  assert.deepEqual([room.live, socket.take("publish").data], [true, 1]);
});

test("a personal room nobody asked for is left alone", async (t) => {
  const world = new World(t);
  const socket = await world.connected();
  socket.push(joined({ room: "@ann", at: 6 }), push("@ann", 7));
  assert.deepEqual(socket.sent, []);
});

// Rooms that the server puts us into

test("a room nobody asked for is told, with what it brings", async (t) => {
  const world = new World(t);
  world.hub.on("entered", (room) => world.watch(room));
  const socket = await world.connected();
  socket.push(joined({ room: "jam", seqs: [4, 5] }), push("jam", 6));
  assert.deepEqual(world.seen(), [
    ["message", 4],
    ["message", 5],
    ["message", 6],
  ]);
  assert.deepEqual(socket.sent, []);
  assert.equal(world.hub.rooms.get("jam").live, true);
  (await world.again()).take("join", { room: "jam", position: { log: "a", seq: 6 } });
});

test("and passed over where nobody listens for it", async (t) => {
  const world = new World(t);
  const socket = await world.connected();
  socket.push(joined({ room: "jam", at: 4 }), push("jam", 5));
  assert.equal(world.hub.rooms.size, 0);
  assert.deepEqual((await world.again()).sent, []);
});

test("it can be left at once", async (t) => {
  const world = new World(t);
  world.hub.on("entered", (room) => world.watch(room).leave());
  const socket = await world.connected();
  socket.push(joined({ room: "jam", seqs: [4] }));
  socket.take("leave", { room: "jam" });
  assert.deepEqual(world.seen(), []);
});

test("a room we are in already stays as it is", async (t) => {
  const world = new World(t);
  const room = await world.room("tea", {}, { at: 3 });
  world.socket.push(joined({ room: "tea", at: 9 }));
  assert.equal(room.position.seq, 3);
  assert.equal(world.hub.state, "connected");
});

test("one we are just joining is begun afresh: nothing may be mixed up", async (t) => {
  const world = new World(t);
  world.watch(world.hub.join("tea"));
  const socket = await world.connected();
  socket.push(joined({ room: "tea", at: 9 }));
  assert.equal(world.hub.state, "offline");
  await world.pass(20);
  (await world.connected()).admit({ at: 9 });
});

// History

test("history names the log of its seqs", async (t) => {
  const world = new World(t);
  const room = await world.room("tea", {}, { at: 50 });
  const page = room.history({ before: 41, limit: 2 });
  const { id } = world.socket.take("history", { room: "tea", before: 41, limit: 2, log: "a" });
  const messages = [{ seq: 39 }, { seq: 40 }];
  world.socket.push({ type: "history", id, room: "tea", log: "a", messages, more: true });
  assert.deepEqual(await page, { log: "a", messages, more: true });
  room.history();
  assert.equal("log" in world.socket.take("history"), false);
});

test("history outlives the connection, and comes after the join", async (t) => {
  const world = new World(t);
  const room = world.hub.join("tea");
  const page = room.history({ limit: 5 });
  await world.connected();
  const socket = await world.again();
  assert.deepEqual(
    socket.sent.map(({ type }) => type),
    ["join", "history"],
  );
  const { id } = socket.take("history");
  socket.push({ type: "history", id, room: "tea", log: "a", messages: [], more: false });
  assert.deepEqual((await page).messages, []);
});

test("history of a closed client rejects at once", async (t) => {
  const world = new World(t);
  const room = await world.room("tea");
  world.hub.close();
  await assert.rejects(room.history(), { code: "closed" });
});

test("history that is refused rejects with the server's code", async (t) => {
  const world = new World(t);
  const room = await world.room("tea");
  const page = room.history();
  const { id } = world.socket.take("history");
  world.socket.push({ type: "error", id, code: "not_granted", message: "no grant", retry: false });
  await assert.rejects(
    page,
    (error) => error instanceof HubbubError && error.code === "not_granted",
  );
});

test("an error that answers nothing is told", async (t) => {
  const world = new World(t);
  const errors = [];
  world.hub.on("error", ({ code }) => errors.push(code));
  (await world.connected()).push({ type: "error", code: "internal", message: "", retry: false });
  assert.deepEqual(errors, ["internal"]);
});
