// The chat client of the tutorials.

import assert from "node:assert/strict";
import { test } from "node:test";
import { World, settle } from "./fake-server.mjs";
import { ChatClient } from "./subject.mjs";

function chat(t, { token, random, url = "ws://hub.test/ws/rooms/tea/ann" } = {}) {
  const world = new World(t, { random }, null);
  const client = new ChatClient(url, token, { WebSocket: world.WebSocket });
  client.onMessage = (data) => world.events.push(data);
  client.onState = (event) => world.states.push(event);
  return { world, client };
}

async function opened(world) {
  await settle();
  world.socket.open();
  return world.socket;
}

test("it says what it is given and hears what comes", async (t) => {
  const { world, client } = chat(t);
  const socket = await opened(world);
  client.send("hi");
  client.send({ any: "JSON" });
  assert.deepEqual(socket.sent, [{ text: "hi" }, { any: "JSON" }]);
  const frames = [
    { type: "message", from: "bob", text: "hello" },
    { type: "error", code: "bad_frame" },
  ];
  socket.push(...frames);
  assert.deepEqual(world.events, frames);
  assert.deepEqual(
    world.states.map(({ state }) => state),
    ["connecting", "connected"],
  );
});

test("the token goes where the tutorials expect it", async (t) => {
  const { world } = chat(t, { token: "a.b.c", url: "ws://hub.test/ws/secure" });
  await settle();
  assert.equal(world.socket.url.href, "ws://hub.test/ws/secure?token=a.b.c");
  assert.equal(world.socket.protocols, undefined);
});

test("a ping is answered and not shown", async (t) => {
  const { world } = chat(t);
  const socket = await opened(world);
  socket.push({ type: "ping" });
  assert.deepEqual(socket.sent, [{ type: "pong" }]);
  assert.deepEqual(world.events, []);
});

test("send without a connection throws", async (t) => {
  const { world, client } = chat(t);
  assert.throws(() => client.send("hi"), /not connected/);
  (await opened(world)).drop();
  assert.throws(() => client.send("hi"), /not connected/);
});

for (const [random, expected] of [
  [0, [0.5, 1, 2, 4, 8, 15, 15]],
  [0.999999, [1, 2, 4, 8, 16, 30, 30]],
]) {
  test(`backoff doubles from 1 s to 30 s, jitter ${random}`, async (t) => {
    const { world } = chat(t, { random });
    const delays = [];
    for (let turn = 0; turn < expected.length; turn += 1) {
      await settle();
      world.socket.drop();
      delays.push(Number(world.states.at(-1).delay.toFixed(3)));
      await world.pass(30);
    }
    assert.deepEqual(delays, expected);
    await opened(world);
    await world.pass(5);
    world.socket.drop();
    assert.equal(world.states.at(-1).delay.toFixed(3), expected[0].toFixed(3));
  });
}

test("quiet is not dead: these doors need not say anything", async (t) => {
  const { world, client } = chat(t);
  await opened(world);
  await world.pass(100_000);
  client.send("hi");
  assert.equal(world.connections.length, 1);
});

for (const code of [1000, 4000, 4001, 4003]) {
  test(`it does not come back after ${code}`, async (t) => {
    const { world } = chat(t);
    (await opened(world)).drop(code, "no");
    assert.deepEqual(world.states.at(-1), { state: "closed", code, reason: "no" });
    await world.pass(100);
    assert.equal(world.connections.length, 1);
  });
}

test("it comes back at once after 4200", async (t) => {
  const { world } = chat(t);
  (await opened(world)).drop(4200);
  await world.pass(0);
  assert.equal(world.connections.length, 2);
});

test("disconnect is clean and final", async (t) => {
  const { world, client } = chat(t);
  const socket = await opened(world);
  client.disconnect();
  assert.equal(socket.closed.code, 1000);
  await world.pass(100);
  assert.equal(world.connections.length, 1);
});

test("a fault in what it calls shows and stops nothing", async (t) => {
  const { world, client } = chat(t);
  const thrown = [];
  t.mock.method(globalThis, "queueMicrotask", (task) =>
    Promise.resolve()
      .then(task)
      .catch(({ message }) => thrown.push(message)),
  );
  client.onState = ({ state }) => {
    throw new Error(state);
  };
  client.onMessage = () => {
    throw new Error("message");
  };
  const socket = await opened(world);
  socket.push({ text: "hi" });
  client.send("still here");
  assert.deepEqual(socket.sent, [{ text: "still here" }]);
  await settle();
  assert.deepEqual(thrown, ["connecting", "connected", "message"]);
});

test("it may be extended instead", async (t) => {
  const heard = [];
  class Mine extends ChatClient {
    onMessage(data) {
      heard.push(data);
    }
  }
  const world = new World(t, {}, null);
  new Mine("ws://hub.test/ws/ann", null, { WebSocket: world.WebSocket });
  (await opened(world)).push({ type: "join", user: "ann", count: 1 });
  assert.deepEqual(heard, [{ type: "join", user: "ann", count: 1 }]);
});
