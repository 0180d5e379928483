// Coming back: close codes, backoff, dead links, what the page tells.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { World, push, settle } from "./fake-server.mjs";
import { Hubbub } from "./subject.mjs";

const last = (world) => world.states.at(-1);

test("it connects at once, and a listener added right away hears of it", async (t) => {
  const world = new World(t);
  assert.equal(world.hub.state, "connecting");
  await world.connected();
  assert.equal(world.hub.state, "connected");
  assert.equal(world.hub.user, "ann");
  assert.deepEqual(
    world.states.map(({ state }) => state),
    ["connecting", "connected"],
  );
});

test("http addresses and fragments are put right", async (t) => {
  const world = new World(t, {}, "https://hub.test/v1/ws#top");
  await settle();
  assert.equal(world.socket.url.href, "wss://hub.test/v1/ws");
});

test("the door need not be named", async (t) => {
  const world = new World(t, {}, "http://hub.test");
  await settle();
  assert.equal(world.socket.url.href, "ws://hub.test/v1/ws");
});

test("without a WebSocket it says what to do", () => {
  const { WebSocket } = globalThis;
  globalThis.WebSocket = undefined;
  try {
    assert.throws(() => new Hubbub("ws://hub.test"), /--experimental-websocket/);
  } finally {
    globalThis.WebSocket = WebSocket;
  }
});

for (const code of [1000, 1007, 1009, 4000, 4001, 4003, 4004, 4050, 4099]) {
  test(`${code} is final`, async (t) => {
    const world = new World(t);
    await world.connected();
    world.socket.drop(code, "because");
    assert.deepEqual(last(world), { state: "closed", code, reason: "because" });
    await world.pass(100);
    assert.equal(world.connections.length, 1);
  });
}

for (const code of [1001, 1005, 1006, 1011, 1012, 3999, 4100, 4101, 4104, 4199, 4300, 4999]) {
  test(`${code} comes back with backoff`, async (t) => {
    const world = new World(t);
    await world.connected();
    world.socket.drop(code);
    assert.deepEqual(last(world), { state: "offline", code, reason: "", delay: 1.25 });
    await world.pass(1.2);
    assert.equal(world.connections.length, 1);
    await world.pass(0.1);
    assert.equal(world.connections.length, 2);
  });
}

for (const code of [4200, 4299]) {
  test(`${code} comes back at once, but the second time in a row with backoff`, async (t) => {
    const world = new World(t);
    await world.connected();
    world.socket.drop(code);
    assert.equal(last(world).delay, 0);
    await world.pass(0);
    await world.connected();
    await world.pass(4.9);
    world.socket.drop(code);
    assert(last(world).delay > 0);
  });
}

test("a 42xx after a connection of five seconds comes back at once again", async (t) => {
  const world = new World(t);
  for (let turn = 0; turn < 3; turn += 1) {
    await world.connected();
    await world.pass(5);
    world.socket.drop(4200);
    assert.equal(last(world).delay, 0);
    await world.pass(0);
  }
});

test("reconnect_after is waited for, and the disconnect frame counts more than the close", async (t) => {
  const world = new World(t);
  await world.connected();
  world.socket.push({ type: "disconnect", code: 4200, reason: "restarting", reconnect_after: 2.5 });
  world.socket.drop(1006);
  assert.deepEqual(last(world), { state: "offline", code: 4200, reason: "restarting", delay: 2.5 });
});

test("reconnect_after counts with backoff too when it is longer", async (t) => {
  const world = new World(t);
  await world.connected();
  world.socket.push({ type: "disconnect", code: 4100, reason: "full", reconnect_after: 7 });
  world.socket.drop(4100);
  assert.equal(last(world).delay, 7);
});

test("a close that was announced and does not come is not waited for", async (t) => {
  const world = new World(t);
  await world.connected();
  world.socket.push({ type: "disconnect", code: 4003, reason: "forbidden" });
  await world.pass(5);
  assert.deepEqual(last(world), { state: "closed", code: 4003, reason: "forbidden" });
});

test("backoff doubles from 2 s to 20 s, and five seconds of connection begin it afresh", async (t) => {
  const world = new World(t, { random: 0.999999 });
  const delays = [];
  for (let turn = 0; turn < 6; turn += 1) {
    await settle();
    world.socket.drop();
    delays.push(Math.round(last(world).delay));
    await world.pass(20);
  }
  assert.deepEqual(delays, [2, 4, 8, 16, 20, 20]);
  await world.connected();
  await world.pass(5);
  world.socket.drop();
  assert.equal(Math.round(last(world).delay), 2);
});

test("the jitter is full: from half a second", async (t) => {
  const world = new World(t, { random: 0 });
  for (let turn = 0; turn < 5; turn += 1) {
    await settle();
    world.socket.drop();
    assert.equal(last(world).delay, 0.5);
    await world.pass(0.5);
  }
});

test("the range of the backoff can be chosen", async (t) => {
  const world = new World(t, { random: 0.999999, backoff: [0.01, 0.1] });
  const delays = [];
  for (let turn = 0; turn < 4; turn += 1) {
    await settle();
    world.socket.drop();
    delays.push(last(world).delay.toFixed(2));
    await world.pass(1);
  }
  assert.deepEqual(delays, ["0.04", "0.08", "0.10", "0.10"]);
});

test("a least wait of none is doubled as the usual one, for ever", async (t) => {
  const world = new World(t, { random: 0.5, backoff: [0, 20] });
  const waits = [0, 1, 5, 1023, 1024, 1e6].map((tries) => world.hub._backoff(tries));
  assert.deepEqual(waits, [1, 2, 10, 10, 10, 10]);
});


test("a server that never says connected is given up after 15 s", async (t) => {
  const world = new World(t);
  await settle();
  world.socket.open();
  await world.pass(14.9);
  assert.equal(last(world).state, "connecting");
  await world.pass(0.1);
  assert.equal(last(world).state, "offline");
  assert.deepEqual(world.socket.closed, { code: 3001, reason: "" });
});

test("a dead link shows by missing pings: after ping_interval and 10 s", async (t) => {
  const world = new World(t);
  const socket = await world.connected({ ping_interval: 25 });
  await world.pass(34);
  socket.push({ type: "ping" });
  await world.pass(34.9);
  assert.equal(last(world).state, "connected");
  await world.pass(0.1);
  assert.deepEqual(last(world).reason, "nothing heard for 35 s");
  assert.equal(socket.closed.code, 3001, "a loss to the server: nobody sees us leave");
});

test("what a lost connection still delivers is not heard", async (t) => {
  const world = new World(t);
  await world.room("tea");
  const { socket } = world;
  await world.pass(35);
  assert.equal(world.hub.state, "offline");
  socket.push(push("tea", 1));
  socket.drop(4003);
  assert.deepEqual(world.seen(), []);
  assert.equal(world.hub.state, "offline");
});

test("what is not JSON loses the connection and comes back", async (t) => {
  const world = new World(t);
  const socket = await world.connected();
  socket.onmessage({ data: "<html>" });
  assert.equal(last(world).state, "offline");
  assert.match(last(world).reason, /JSON/);
});

test("frames of unknown types are ignored", async (t) => {
  const world = new World(t);
  const socket = await world.connected();
  socket.push({ type: "news" }, { type: "news", room: "tea" });
  assert.equal(world.hub.state, "connected");
});

test("close is clean, and ends every try", async (t) => {
  const world = new World(t);
  const socket = await world.connected();
  world.hub.close();
  assert.equal(socket.closed.code, 1000);
  assert.equal(last(world).state, "closed");
  await world.pass(100);
  assert.equal(world.connections.length, 1);
});

test("close right after the start makes no connection", async (t) => {
  const world = new World(t);
  world.hub.close();
  await world.pass(100);
  assert.equal(world.connections.length, 0);
  assert.deepEqual(
    world.states.map(({ state }) => state),
    ["closed"],
  );
});

test("close while waiting for the next try ends it", async (t) => {
  const world = new World(t);
  await world.connected();
  world.socket.drop();
  world.hub.close();
  await world.pass(100);
  assert.equal(world.connections.length, 1);
});

test("connect begins again after the end, and does not wait for the next try", async (t) => {
  const world = new World(t);
  await world.connected();
  world.socket.drop(4003);
  world.hub.connect();
  await world.connected();
  world.socket.drop();
  world.hub.connect();
  await settle();
  assert.equal(world.connections.length, 3);
  world.hub.connect();
  await settle();
  assert.equal(world.connections.length, 3, "a try under way is not doubled");
});

test("a fault in a listener shows and breaks nothing", async (t) => {
  const world = new World(t);
  const thrown = [];
  const { queueMicrotask } = globalThis;
  t.mock.method(globalThis, "queueMicrotask", (task) =>
    queueMicrotask(() => {
      try {
        task();
      } catch (error) {
        thrown.push(error.message); // would end the process, or show in the page's console
      }
    }),
  );
  world.hub.on("state", ({ state }) => {
    if (state === "connected") throw new Error("mine");
  });
  const later = [];
  world.hub.on("state", ({ state }) => later.push(state));
  await world.connected();
  await settle();
  assert.deepEqual(thrown, ["mine"]);
  assert.deepEqual(later, ["connecting", "connected"]);
});

// What the page tells

const page = () => {
  const target = new EventTarget();
  const listeners = new Set();
  globalThis.document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  for (const [source, at] of [
    [target, globalThis],
    [document, document],
  ]) {
    const { addEventListener, removeEventListener } = EventTarget.prototype;
    at.addEventListener = (type, listener) => {
      listeners.add(type);
      addEventListener.call(source, type, listener);
    };
    at.removeEventListener = (type, listener) => {
      listeners.delete(type);
      removeEventListener.call(source, type, listener);
    };
  }
  return {
    listeners,
    tell: (type) => target.dispatchEvent(new Event(type)),
    show(state) {
      document.visibilityState = state;
      document.dispatchEvent(new Event("visibilitychange"));
    },
  };
};

afterEach(() => {
  delete globalThis.document;
  delete globalThis.addEventListener;
  delete globalThis.removeEventListener;
});

test("online tries at once also when the clock was set back meanwhile", async (t) => {
  const { tell } = page();
  const world = new World(t);
  await world.connected();
  world.socket.drop();
  const { now } = Date;
  t.mock.method(Date, "now", () => now() - 3_600_000);
  tell("online");
  await world.pass(0);
  assert.equal(world.connections.length, 2);
});

test("online and a visible page try at once", async (t) => {
  const { tell, show } = page();
  const world = new World(t);
  await world.connected();
  world.socket.drop();
  tell("online");
  await world.pass(0);
  assert.equal(world.connections.length, 2);
  world.socket.drop();
  show("hidden");
  await world.pass(0);
  assert.equal(world.connections.length, 2);
  show("visible");
  await world.pass(0);
  assert.equal(world.connections.length, 3);
});

test("an error without a close is the end as well", async (t) => {
  const world = new World(t);
  await settle();
  world.socket.onerror();
  await world.pass(0.1);
  assert.deepEqual(last(world), { state: "offline", code: 1006, reason: "", delay: 1.25 });
});

test("a close behind an error says why", async (t) => {
  const world = new World(t);
  await world.connected();
  world.socket.onerror();
  world.socket.drop(4003, "forbidden");
  await world.pass(100);
  assert.deepEqual(last(world), { state: "closed", code: 4003, reason: "forbidden" });
});

test("going offline is no reason to try", async (t) => {
  const { tell } = page();
  const world = new World(t);
  await world.connected();
  world.socket.drop();
  tell("offline");
  await world.pass(1.2);
  assert.equal(world.connections.length, 1);
});

test("but not before reconnect_after", async (t) => {
  const { tell } = page();
  const world = new World(t);
  await world.connected();
  world.socket.push({ type: "disconnect", code: 4200, reason: "restarting", reconnect_after: 8 });
  world.socket.drop(4200);
  await world.pass(3);
  tell("online");
  await world.pass(4.9);
  assert.equal(world.connections.length, 1);
  await world.pass(0.1);
  assert.equal(world.connections.length, 2);
});

for (const [name, event] of [
  ["a page that becomes visible", ({ show }) => show("visible")],
  ["online", ({ tell }) => tell("online")],
  ["offline", ({ tell }) => tell("offline")],
]) {
  test(`${name} asks a connection whether it lives`, async (t) => {
    const events = page();
    const world = new World(t);
    const socket = await world.connected();
    event(events);
    socket.take("ping");
    await world.pass(4);
    socket.push({ type: "pong" });
    await world.pass(30);
    assert.equal(world.hub.state, "connected");
    event(events);
    await world.pass(5);
    assert.equal(world.hub.state, "offline");
  });
}

test("a closed client does not listen to the page any more", async (t) => {
  const { tell, listeners } = page();
  const world = new World(t);
  await world.connected();
  assert.deepEqual([...listeners], ["online", "offline", "visibilitychange"]);
  world.hub.close();
  assert.equal(listeners.size, 0);
  tell("online");
  await world.pass(0);
  assert.equal(world.connections.length, 1);
});
