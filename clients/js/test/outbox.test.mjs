// Publishing: once, over reconnects and reloads, in order, within the server's limits.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { FakeStorage, World, settle } from "./fake-server.mjs";
import { Hubbub } from "./subject.mjs";

const refusal = ({ id }, code, fields = {}) => ({
  ...{ type: "error", id, code, message: code, retry: false },
  ...fields,
});
const texts = (socket) => socket.sent.filter(({ type }) => type === "publish").map((f) => f.data);

test("publish resolves to the position", async (t) => {
  const world = new World(t);
  const room = await world.room("tea");
  const published = room.publish({ text: "hi" });
  const frame = world.socket.take("publish", { room: "tea", data: { text: "hi" } });
  assert.match(frame.key, /^[0-9a-f]{32}$/);
  assert.equal("echo" in frame || "ephemeral" in frame, false);
  world.socket.ack(frame, 4);
  assert.deepEqual(await published, { log: "a", seq: 4, id: "m4", duplicate: false });
  assert.deepEqual(world.hub.pending, []);
});

test("what is published before connecting waits, in order", async (t) => {
  const world = new World(t);
  const published = [1, 2, 3].map((data) => world.hub.publish("tea", data));
  assert.deepEqual(
    world.hub.pending.map(({ room, data }) => [room, data]),
    [
      ["tea", 1],
      ["tea", 2],
      ["tea", 3],
    ],
  );
  const socket = await world.connected();
  assert.deepEqual(texts(socket), [1, 2, 3]);
  for (const seq of [1, 2, 3]) socket.ack(socket.take("publish"), seq);
  assert.deepEqual(
    (await Promise.all(published)).map(({ seq }) => seq),
    [1, 2, 3],
  );
});

test("it is not sent before its room is joined, and others do not wait for that", async (t) => {
  const world = new World(t);
  const room = world.hub.join("tea");
  room.publish(1);
  world.hub.publish("jam", 2);
  const socket = await world.connected();
  assert.deepEqual(texts(socket), [2]);
  socket.admit();
  assert.deepEqual(texts(socket), [2, 1]);
});

test("a join that is refused lets it go", async (t) => {
  const world = new World(t);
  const room = world.watch(world.hub.join("tea"));
  room.publish(1);
  const socket = await world.connected();
  socket.push(refusal(socket.take("join"), "not_granted"));
  assert.deepEqual(texts(socket), [1]);
});

test("without an answer it is sent again with the same key, before what is new", async (t) => {
  const world = new World(t);
  const room = await world.room("tea");
  const published = room.publish(1);
  const first = world.socket.take("publish");
  world.socket.drop();
  room.publish(2);
  await world.pass(20);
  const socket = await world.connected();
  socket.admit({ outcome: "ok" });
  assert.deepEqual(texts(socket), [1, 2]);
  const second = socket.take("publish");
  assert.deepEqual(second, first);
  socket.ack(second, 4, { duplicate: true });
  assert.equal((await published).duplicate, true);
});

test("an error that allows it is followed by the same frame, after retry_after", async (t) => {
  const world = new World(t);
  await world.connected();
  const published = world.hub.publish("tea", 1);
  const frame = world.socket.take("publish");
  world.socket.push(refusal(frame, "rate_limited", { retry: true, retry_after: 3 }));
  await world.pass(2.9);
  assert.deepEqual(world.socket.sent, []);
  await world.pass(0.1);
  world.socket.push(refusal(world.socket.take("publish"), "unknown", { retry: true }));
  await world.pass(1.25);
  const again = world.socket.take("publish");
  assert.deepEqual(again, frame);
  world.socket.ack(again, 1);
  assert.equal((await published).seq, 1);
});

test("a room that refuses holds up itself only, and goes on one by one, in order", async (t) => {
  const world = new World(t);
  const socket = await world.connected();
  for (const data of [1, 2, 3]) world.hub.publish("tea", data);
  for (let turn = 0; turn < 3; turn += 1) {
    socket.push(refusal(socket.take("publish"), "rate_limited", { retry: true, retry_after: 1 }));
  }
  world.hub.publish("jam", 4);
  assert.deepEqual(texts(socket), [4]);
  socket.ack(socket.take("publish"), 1);
  await world.pass(1);
  for (const data of [1, 2, 3]) {
    assert.deepEqual(texts(socket), [data]);
    socket.ack(socket.take("publish"), data);
  }
  world.hub.publish("tea", 5);
  world.hub.publish("tea", 6);
  assert.deepEqual(texts(socket), [5], "slow until nothing of it waits");
  socket.ack(socket.take("publish"), 5);
  socket.ack(socket.take("publish"), 6);
  assert.deepEqual(world.hub.pending, []);
});

test("and at once again on another connection", async (t) => {
  const world = new World(t);
  const socket = await world.connected();
  world.hub.publish("tea", 1);
  world.hub.publish("tea", 2);
  socket.push(refusal(socket.take("publish"), "rate_limited", { retry: true, retry_after: 1 }));
  assert.deepEqual(texts(await world.again()), [1, 2]);
});

test("a final error rejects and is told", async (t) => {
  const world = new World(t);
  const failed = [];
  world.hub.on("failed", ({ room, data, error }) => failed.push([room, data, error.code]));
  await world.connected();
  const published = world.hub.publish("staff", 1);
  world.socket.push(refusal(world.socket.take("publish"), "not_granted"));
  await assert.rejects(published, { code: "not_granted", retry: false });
  assert.deepEqual(failed, [["staff", 1, "not_granted"]]);
  assert.deepEqual(world.hub.pending, []);
});

test("too late to repeat: unknown, and not sent", async (t) => {
  const world = new World(t);
  await world.connected();
  const old = assert.rejects(world.hub.publish("tea", 1), { code: "unknown" });
  world.socket.drop();
  const fresh = world.hub.publish("tea", 2);
  for (let left = 0; left < 300; left += 10) {
    await world.pass(10);
    if (world.socket.readyState === 0) world.socket.drop();
  }
  await world.pass(20);
  const socket = await world.connected();
  await old;
  assert.deepEqual(texts(socket), [2], "what was never sent does not age");
  socket.ack(socket.take("publish"), 1);
  await fresh;
});

test("what the server said it has not done does not age", async (t) => {
  const world = new World(t);
  const socket = await world.connected({ ping_interval: 1000 });
  const published = world.hub.publish("tea", 1);
  for (let turn = 0; turn < 5; turn += 1) {
    const error = refusal(socket.take("publish"), "rate_limited", {
      retry: true,
      retry_after: 100,
    });
    socket.push(error);
    await world.pass(100);
  }
  socket.ack(socket.take("publish"), 1);
  assert.equal((await published).seq, 1);
});

test("but what was sent on a connection before may be there all the same", async (t) => {
  const world = new World(t);
  await world.connected({ ping_interval: 1000 });
  const published = assert.rejects(world.hub.publish("tea", 1), { code: "unknown" });
  const socket = await world.again({ ping_interval: 1000 });
  const error = refusal(socket.take("publish"), "rate_limited", { retry: true, retry_after: 300 });
  socket.push(error);
  await world.pass(300);
  await published;
  assert.deepEqual(socket.sent, []);
});

test("after a reset, what was sent to the room is unknown", async (t) => {
  const world = new World(t);
  const room = await world.room("tea");
  const sent = assert.rejects(room.publish(1), { code: "unknown" });
  world.socket.drop();
  room.publish(2);
  await world.pass(20);
  const socket = await world.connected();
  socket.admit({ outcome: "reset", log: "b" });
  await sent;
  assert.deepEqual(texts(socket), [2]);
});

test("after any other outcome it is sent again", async (t) => {
  const world = new World(t);
  const room = await world.room("tea");
  room.publish(1);
  const socket = await world.again();
  socket.admit({ outcome: "gap", first: 5, seqs: [5] });
  assert.deepEqual(texts(socket), [1]);
});

test("a final close rejects what waits: unknown if it was sent, closed if not", async (t) => {
  const world = new World(t);
  await world.connected();
  world.hub.join("tea");
  const sent = assert.rejects(world.hub.publish("jam", 1), { code: "unknown" });
  const kept = assert.rejects(world.hub.publish("tea", 2), { code: "closed" });
  world.socket.drop(4003, "forbidden");
  await sent;
  await kept;
  await assert.rejects(world.hub.publish("jam", 3), { code: "closed" });
  world.hub.connect();
  assert.deepEqual(texts(await world.connected()), []);
});

test("data is what it was when published", async (t) => {
  const world = new World(t);
  const data = { text: "before" };
  world.hub.publish("tea", data);
  data.text = "after";
  assert.deepEqual(texts(await world.connected()), [{ text: "before" }]);
});

test("what JSON cannot hold rejects", async (t) => {
  const world = new World(t);
  await assert.rejects(world.hub.publish("tea", 1n), TypeError);
  assert.deepEqual(world.hub.pending, []);
});

for (const [name, sent, code] of [
  ["sent", true, "unknown"],
  ["not sent", false, "closed"],
]) {
  test(`closed without a storage, what was ${name} is ${code}, and told`, async (t) => {
    const world = new World(t);
    const failed = [];
    world.hub.on("failed", ({ data, error }) => failed.push([data, error.code]));
    if (sent) await world.connected();
    const told = assert.rejects(world.hub.publish("tea", 1), { code });
    world.hub.close();
    await told;
    assert.deepEqual(failed, [[1, code]]);
  });
}

test("ephemeral on its way at the close is dropped like any other", async (t) => {
  const world = new World(t);
  await world.connected();
  const published = world.hub.publish("tea", 1, { ephemeral: true });
  world.hub.close();
  assert.equal(await published, null);
});

// Limits

test("a frame over the limit fails that publish alone, and is not sent", async (t) => {
  const world = new World(t);
  const socket = await world.connected({ limits: { frame_bytes: 300 } });
  await assert.rejects(world.hub.publish("tea", "x".repeat(300)), { code: "message_too_large" });
  await assert.rejects(world.hub.publish("tea", "ü".repeat(120)), { code: "message_too_large" });
  const flash = world.hub.publish("tea", "x".repeat(300), { ephemeral: true });
  await assert.rejects(flash, { code: "message_too_large" });
  world.hub.publish("tea", "x".repeat(120));
  assert.equal(texts(socket).length, 1);
});

test("the limit is to the byte", async (t) => {
  const world = new World(t);
  await world.connected();
  world.hub.publish("tea", "");
  const bytes = JSON.stringify(world.socket.take("publish")).length;
  world.socket.drop();
  await world.pass(20);
  await world.connected({ limits: { frame_bytes: bytes + 10 } });
  const frames = () => texts(world.socket).length;
  const before = frames();
  world.hub.publish("tea", "x".repeat(10));
  assert.equal(frames(), before + 1);
  await assert.rejects(world.hub.publish("tea", "x".repeat(11)), { code: "message_too_large" });
});

test("what was published before the limit was known fails when it is", async (t) => {
  const world = new World(t);
  const published = assert.rejects(world.hub.publish("tea", "x".repeat(500)), {
    code: "message_too_large",
  });
  const socket = await world.connected({ limits: { frame_bytes: 300 } });
  await published;
  assert.deepEqual(socket.sent, []);
});

test("the rate is kept, so that the server need not refuse", async (t) => {
  const world = new World(t);
  const socket = await world.connected({
    limits: { messages_per_second: 10, messages_burst: 20 },
  });
  for (let data = 0; data < 40; data += 1) world.hub.publish("tea", data);
  assert.equal(texts(socket).length, 16);
  await world.pass(1);
  assert(texts(socket).length >= 25 && texts(socket).length <= 26);
  await world.pass(10);
  assert.deepEqual(
    texts(socket),
    Array.from({ length: 40 }, (_, n) => n),
  );
});

test("a rate of 0 is no limit", async (t) => {
  const world = new World(t);
  const limits = { messages_per_second: 0, messages_burst: 0 };
  const socket = await world.connected({ limits });
  for (let data = 0; data < 500; data += 1) world.hub.publish("tea", data);
  assert.equal(texts(socket).length, 500);
});

// Ephemeral

test("ephemeral goes without a key and resolves to null", async (t) => {
  const world = new World(t);
  const room = await world.room("tea");
  const published = room.publish({ typing: true }, { ephemeral: true });
  const frame = world.socket.take("publish", { ephemeral: true });
  assert.equal("key" in frame, false);
  world.socket.push({ type: "ack", id: frame.id, room: "tea", ephemeral: true });
  assert.equal(await published, null);
});

test("ephemeral is dropped while offline, while joining, and when the connection is lost", async (t) => {
  const world = new World(t);
  const room = world.hub.join("tea");
  assert.equal(await room.publish(1, { ephemeral: true }), null);
  await world.connected();
  assert.equal(await room.publish(2, { ephemeral: true }), null);
  world.socket.admit();
  const published = room.publish(3, { ephemeral: true });
  assert.deepEqual(texts(world.socket), [3]);
  const socket = await world.again();
  assert.equal(await published, null);
  socket.admit({ outcome: "ok" });
  assert.deepEqual(texts(socket), []);
});

test("ephemeral is dropped, not repeated, when the server is too busy; otherwise rejected", async (t) => {
  const world = new World(t);
  await world.connected();
  const busy = world.hub.publish("tea", 1, { ephemeral: true });
  world.socket.push(refusal(world.socket.take("publish"), "rate_limited", { retry: true }));
  assert.equal(await busy, null);
  const refused = world.hub.publish("tea", 1, { ephemeral: true });
  world.socket.push(refusal(world.socket.take("publish"), "not_granted"));
  await assert.rejects(refused, { code: "not_granted" });
  await world.pass(10);
  assert.deepEqual(world.socket.sent, []);
});

test("ephemeral is dropped when the rate is used up", async (t) => {
  const world = new World(t);
  await world.connected({ limits: { messages_per_second: 1, messages_burst: 1 } });
  world.hub.publish("tea", 1, { ephemeral: true });
  assert.equal(await world.hub.publish("tea", 2, { ephemeral: true }), null);
  assert.deepEqual(texts(world.socket), [1]);
});

// Over a reload

/** The page is loaded again: another client, the same storage. */
function reload(world, t, options) {
  world.hub.close();
  t.mock.reset();
  world.timers.reset();
  return new World(t, options);
}

test("with a storage the outbox survives a reload, in order", async (t) => {
  const options = { user: "ann", storage: new FakeStorage() };
  const world = new World(t, options);
  await world.connected();
  const published = [1, 2].map((data) => world.hub.publish("tea", data));
  const sent = world.socket.take("publish");
  world.socket.drop();
  published.push(world.hub.publish("tea", 3));
  const closed = published.map((promise) => assert.rejects(promise, { code: "closed" }));
  const next = reload(world, t, options);
  await Promise.all(closed);
  const told = [];
  next.hub.on("published", ({ data, position }) => told.push([data, position.seq]));
  const socket = await next.connected();
  assert.deepEqual(
    next.hub.pending.map(({ data }) => data),
    [1, 2, 3],
  );
  assert.deepEqual(texts(socket), [1, 2, 3]);
  const again = socket.take("publish");
  assert.deepEqual(again, sent, "the same key");
  socket.ack(again, 1, { duplicate: true });
  socket.ack(socket.take("publish"), 2);
  socket.ack(socket.take("publish"), 3);
  assert.deepEqual(told, [
    [1, 1],
    [2, 2],
    [3, 3],
  ]);
  assert.equal(options.storage.length, 0);
});

test("what was sent too long before the reload is told as unknown", async (t) => {
  const options = { user: "ann", storage: new FakeStorage() };
  const world = new World(t, options);
  await world.connected();
  world.hub.publish("tea", 1).catch(() => {});
  const next = reload(world, t, options);
  const failed = [];
  next.hub.on("failed", ({ data, error }) => failed.push([data, error.code]));
  next.timers.tick(300_000);
  if (next.socket) next.socket.drop();
  await next.pass(20);
  const socket = await next.connected();
  assert.deepEqual(failed, [[1, "unknown"]]);
  assert.deepEqual(socket.sent, []);
  assert.equal(options.storage.length, 0);
});

test("nor is it repeated for ever because the server is busy", async (t) => {
  const options = { user: "ann", storage: new FakeStorage() };
  const world = new World(t, options);
  await world.connected();
  world.hub.publish("tea", 1).catch(() => {});
  const next = reload(world, t, options);
  const failed = [];
  next.hub.on("failed", ({ error }) => failed.push(error.code));
  const socket = await next.connected({ ping_interval: 1000 });
  const error = refusal(socket.take("publish"), "rate_limited", { retry: true, retry_after: 300 });
  socket.push(error);
  await next.pass(300);
  assert.deepEqual(failed, ["unknown"]);
});

test("what was answered or refused is not in the storage any more", async (t) => {
  const storage = new FakeStorage();
  const world = new World(t, { user: "ann", storage });
  await world.connected();
  const published = [world.hub.publish("tea", 1), world.hub.publish("tea", 2)];
  assert.equal(storage.length, 2);
  world.socket.ack(world.socket.take("publish"), 1);
  world.socket.push(refusal(world.socket.take("publish"), "not_granted"));
  await published[0];
  await assert.rejects(published[1]);
  assert.equal(storage.length, 0);
});

test("what one user wrote is not sent as another", async (t) => {
  const storage = new FakeStorage();
  const world = new World(t, { user: "ann", storage });
  world.hub.publish("tea", 1).catch(() => {});
  const next = reload(world, t, { user: "bob", storage });
  const socket = await next.connected({ user_id: "bob" });
  assert.deepEqual(socket.sent, []);
  assert.equal(storage.length, 1);
});

test("nor by the same client when the token turns out to be another's", async (t) => {
  const world = new World(t, { user: "ann", getToken: () => "t" });
  const published = assert.rejects(world.hub.publish("tea", 1), { code: "forbidden" });
  const socket = await world.connected({ user_id: "bob" });
  await published;
  assert.deepEqual(socket.sent, []);
});

test("until the user is known nothing is stored; then it is", async (t) => {
  const storage = new FakeStorage();
  const world = new World(t, { storage });
  world.hub.publish("tea", 1);
  assert.equal(storage.length, 0);
  await world.connected();
  assert.equal(storage.length, 1);
});

test("a storage that is full rejects the publish", async (t) => {
  const storage = new FakeStorage();
  const world = new World(t, { user: "ann", storage });
  await world.connected();
  t.mock.method(storage, "setItem", () => {
    throw new Error("QuotaExceededError");
  });
  await assert.rejects(world.hub.publish("tea", 1), /Quota/);
  assert.deepEqual(world.socket.sent, []);
  assert.deepEqual(world.hub.pending, []);
});

test("what does not belong to us in the storage is left alone, what is broken goes", async (t) => {
  const storage = new FakeStorage();
  storage.setItem("theme", "dark");
  storage.setItem("hubbub ws://hub.test/v1/ws ann broken", "{");
  storage.setItem("hubbub ws://hub.test/v1/ws ann strange", "{}");
  const world = new World(t, { user: "ann", storage });
  const errors = [];
  world.hub.on("error", (error) => errors.push(error.name));
  await world.connected();
  assert.deepEqual(errors.sort(), ["Error", "SyntaxError"]);
  assert.equal(storage.length, 1);
  assert.equal(storage.getItem("theme"), "dark");
});

test("two tabs with one storage do not lose each other's messages", async (t) => {
  const storage = new FakeStorage();
  const one = new World(t, { user: "ann", storage });
  await one.connected();
  t.mock.reset();
  one.timers.reset();
  const two = new World(t, { user: "ann", storage });
  await two.connected();
  one.hub.publish("tea", 1);
  two.hub.publish("tea", 2);
  one.socket.ack(one.socket.take("publish"), 1);
  await settle();
  assert.equal(storage.length, 1);
});

/** Another client of the same user, in the same world, with its connection. */
async function tab(world, storage) {
  const hub = new Hubbub("ws://hub.test/v1/ws", {
    ...{ WebSocket: world.WebSocket, user: "ann", storage },
  });
  hub.join("tea");
  await settle();
  return [hub, world.socket];
}

async function back(world, hub) {
  hub.connect();
  await settle();
  world.socket.accept();
  return world.socket;
}

/** Two tabs; A has written M offline, and B read it from the storage and lost its connection. */
async function twoTabs(t) {
  const storage = new FakeStorage();
  const world = new World(t, { user: "ann", storage });
  world.hub.join("tea");
  (await world.connected()).admit();
  world.socket.drop();
  const published = world.hub.publish("tea", "M");
  const [other, socket] = await tab(world, storage);
  socket.accept();
  assert.equal(other.pending.length, 1);
  return { storage, world, published, other, socket };
}

test("what one tab sent is not sent again by another that had read it before", async (t) => {
  const { storage, world, published, other, socket } = await twoTabs(t);
  socket.drop();
  const mine = await back(world, world.hub);
  mine.admit({ outcome: "ok" });
  mine.ack(mine.take("publish"), 1);
  await published;
  assert.equal(storage.length, 0);
  t.mock.timers.setTime(Date.now() + 400_000);
  const theirs = await back(world, other);
  theirs.admit();
  assert.deepEqual(texts(theirs), []);
  assert.deepEqual(other.pending, []);
});

test("nor without a lost connection in between", async (t) => {
  const { world, published, other, socket } = await twoTabs(t);
  const mine = await back(world, world.hub);
  mine.admit({ outcome: "ok" });
  mine.ack(mine.take("publish"), 1);
  await published;
  socket.admit();
  assert.deepEqual([texts(socket), other.pending], [[], []]);
});

test("nor by the one that wrote it, too late to repeat what the other sent", async (t) => {
  const { world, published, socket } = await twoTabs(t);
  socket.admit();
  socket.ack(socket.take("publish"), 1);
  const told = assert.rejects(published, { code: "unknown" });
  t.mock.timers.setTime(Date.now() + 400_000);
  const mine = await back(world, world.hub);
  mine.admit({ outcome: "ok" });
  await told;
  assert.deepEqual(texts(mine), []);
});

test("the time of another tab's try counts", async (t) => {
  const { world, published, socket } = await twoTabs(t);
  socket.admit();
  socket.take("publish");
  const told = assert.rejects(published, { code: "unknown" });
  t.mock.timers.setTime(Date.now() + 400_000);
  const mine = await back(world, world.hub);
  mine.admit({ outcome: "ok" });
  await told;
  assert.deepEqual(texts(mine), []);
});

test("a tab that is sent away leaves the others what they wrote", async (t) => {
  const { storage, world, published, other, socket } = await twoTabs(t);
  const failed = [];
  other.on("failed", ({ data }) => failed.push(data));
  socket.drop(4001, "token_invalid");
  assert.deepEqual([storage.length, failed, other.pending], [1, [], []]);
  const mine = await back(world, world.hub);
  mine.admit({ outcome: "ok" });
  mine.ack(mine.take("publish"), 1);
  assert.equal((await published).seq, 1);
});

test("nothing is looked through for a message that cannot go yet", async (t) => {
  const world = new World(t);
  let looks = 0;
  const { get } = world.hub.rooms;
  t.mock.method(world.hub.rooms, "get", function (name) {
    looks += 1;
    return get.call(this, name);
  });
  const publish = () => {
    looks = 0;
    for (let n = 0; n < 100; n += 1) world.hub.publish("tea", n).catch(() => {});
    return looks;
  };
  assert.equal(publish(), 0);
  world.hub.join("tea");
  await world.connected();
  assert.ok(publish() <= 200, "as often as there are messages, not as their square");
  world.socket.admit();
  assert.equal(texts(world.socket).length, 200);
});


test("a closed client does not keep Node alive, whatever it was waiting for", () => {
  const program = `
    import { Hubbub } from "./test/subject.mjs";
    class Busy {
      constructor() { setTimeout(() => this.say({ type: "connected", user_id: "ann", ping_interval: 25 })); }
      say(frame) { this.onmessage?.({ data: JSON.stringify(frame) }); }
      close() {}
      send(text) {
        const { id } = JSON.parse(text);
        const error = { type: "error", code: "unavailable", message: "busy", retry: true };
        this.say({ ...error, id, retry_after: 1000 });
      }
    }
    const hub = new Hubbub("ws://hub.test", { user: "ann", WebSocket: Busy });
    hub.join("tea").history().catch(() => {});
    hub.publish("jam", 1).catch(() => {});
    hub.on("state", ({ state }) => state === "connected" && setTimeout(() => hub.close()));`;
  const done = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
    cwd: new URL("..", import.meta.url),
    timeout: 60_000,
    encoding: "utf8",
  });
  assert.deepEqual([done.status, done.stderr], [0, ""]);
});
