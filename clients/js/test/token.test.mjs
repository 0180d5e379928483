// Who one is: tokens and their life, guests and their names.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { FakeStorage, World, settle } from "./fake-server.mjs";

/** getToken gives t1, t2, … and counts. */
function tokens() {
  const getToken = async () => `t${(getToken.calls += 1)}`;
  getToken.calls = 0;
  return getToken;
}

const offered = (world) => world.socket.protocols?.at(1);

test("a token goes as a subprotocol, not in the address", async (t) => {
  const world = new World(t, { getToken: tokens(), user: "ann" });
  await world.connected();
  assert.deepEqual(world.socket.protocols, ["hubbub.v1", "bearer.t1"]);
  assert.equal(world.socket.url.search, "");
});

test("a token that lives is used again", async (t) => {
  const getToken = tokens();
  const world = new World(t, { getToken });
  await world.connected({ expires_in: 3600 });
  await world.again({ expires_in: 3580 });
  assert.equal(offered(world), "bearer.t1");
  assert.equal(getToken.calls, 1);
});

test("at 80 % of its life a new one is fetched and handed in", async (t) => {
  const world = new World(t, { getToken: tokens() });
  const socket = await world.connected({ expires_in: 100, ping_interval: 1e6 });
  await world.pass(79.9);
  assert.deepEqual(socket.sent, []);
  await world.pass(0.1);
  const { id } = socket.take("auth", { token: "t2" });
  socket.push({ type: "ack", id, expires_in: 50 });
  await world.pass(39.9);
  assert.deepEqual(socket.sent, []);
  await world.pass(0.1);
  socket.take("auth", { token: "t3" });
  assert.equal(world.hub.state, "connected");
  socket.drop();
  await world.pass(2);
  assert.equal(offered(world), "bearer.t4", "what was not acknowledged is not relied on");
});

test("the life of a token beyond what a timer takes is no reason to renew it at once", async (t) => {
  const getToken = tokens();
  const world = new World(t, { getToken });
  await world.connected({ expires_in: 1e9, ping_interval: 1e7 });
  await world.pass(1000);
  assert.equal(getToken.calls, 1);
});

test("without expires_in nothing is renewed", async (t) => {
  const getToken = tokens();
  const world = new World(t, { getToken });
  await world.connected({ ping_interval: 1e7 });
  await world.pass(1e6);
  assert.equal(getToken.calls, 1);
});

test("a fetch that fails is told and tried again while the old token lives", async (t) => {
  const errors = [];
  const getToken = tokens();
  const world = new World(t, {
    getToken: () =>
      getToken.calls === 1 && errors.length < 2 ? Promise.reject(new Error("500")) : getToken(),
  });
  world.hub.on("error", ({ message }) => errors.push(message));
  const socket = await world.connected({ expires_in: 100, ping_interval: 1e6 });
  await world.pass(80);
  assert.deepEqual(errors, ["500"]);
  await world.pass(1.25);
  assert.deepEqual(errors, ["500", "500"]);
  await world.pass(2.25);
  socket.take("auth", { token: "t2" });
});

test("a new token that is refused is told, and another one asked for", async (t) => {
  const errors = [];
  const world = new World(t, { getToken: tokens() });
  world.hub.on("error", ({ code }) => errors.push(code));
  const socket = await world.connected({ expires_in: 100, ping_interval: 1e6 });
  await world.pass(80);
  const { id } = socket.take("auth");
  socket.push({ type: "error", id, code: "forbidden", message: "another user", retry: false });
  assert.deepEqual(errors, ["forbidden"]);
  await world.pass(1.25);
  socket.take("auth", { token: "t3" });
});

test("a token that arrives after its connection was lost is not sent on the next", async (t) => {
  let give;
  const getToken = tokens();
  const world = new World(t, {
    getToken: () =>
      getToken.calls === 0 ? getToken() : new Promise((resolve) => (give = resolve)),
  });
  await world.connected({ expires_in: 100, ping_interval: 1e6 });
  await world.pass(80);
  const late = give;
  world.socket.drop();
  await world.pass(2);
  give("t9");
  const socket = await world.connected();
  late("t8");
  await settle();
  assert.deepEqual(socket.sent, []);
  assert.equal(offered(world), "bearer.t9");
});

test("nor does one that was given up for too slow take the place of a newer one", async (t) => {
  const given = [];
  const getToken = () => new Promise((resolve) => given.push(resolve));
  const world = new World(t, { getToken });
  await settle();
  await world.pass(15);
  await world.pass(2);
  assert.equal(given.length, 2);
  given[1]("newer");
  await world.connected({ expires_in: 100, ping_interval: 1e6 });
  given[0]("older");
  await settle();
  await world.again();
  assert.equal(offered(world), "bearer.newer");
});

test("one that ran out while away is renewed before connecting", async (t) => {
  const world = new World(t, { getToken: tokens() });
  await world.connected({ expires_in: 60 });
  await world.pass(30);
  world.socket.drop();
  await world.pass(40);
  world.socket.drop();
  await world.pass(40);
  assert.equal(offered(world), "bearer.t2");
});

test("when that fails, the next try does not go with the old one", async (t) => {
  const getToken = tokens();
  let broken = false;
  const world = new World(t, {
    getToken: () => (broken ? Promise.reject(new Error("500")) : getToken()),
  });
  await world.connected({ expires_in: 60 });
  await world.pass(30);
  broken = true;
  world.socket.drop();
  await world.pass(50);
  world.socket.drop(); // a try that had the time to begin with the old token
  await world.pass(20);
  const before = world.connections.length;
  broken = false;
  await world.pass(20);
  assert.equal(world.connections.length, before + 1);
  assert.equal(offered(world), "bearer.t2");
});

test("4101: the session's token ran out, a new one comes back", async (t) => {
  const world = new World(t, { getToken: tokens() });
  await world.connected({ expires_in: 3600 });
  world.socket.drop(4101, "token expired");
  await world.pass(2);
  assert.equal(offered(world), "bearer.t2");
});

test("token_expired is forgiven once, until the next connection", async (t) => {
  const world = new World(t, { getToken: tokens() });
  const expired = () => world.socket.drop(4001, "token_expired: it has expired");
  for (let turn = 0; turn < 2; turn += 1) {
    await world.connected();
    await world.pass(6);
    expired();
    assert.equal(world.hub.state, "offline");
    await world.pass(2);
  }
  assert.equal(offered(world), "bearer.t3");
  await world.connected();
  expired();
  await world.pass(20);
  expired();
  assert.equal(world.hub.state, "closed");
  await world.pass(100);
  assert.equal(world.connections.length, 4);
});

test("no other 4001 is forgiven; connect begins with a new token", async (t) => {
  const world = new World(t, { getToken: tokens() });
  await settle();
  world.socket.drop(4001, "token_revoked: by cleo");
  assert.equal(world.hub.state, "closed");
  world.hub.connect();
  await settle();
  assert.equal(offered(world), "bearer.t2");
});

test("a fetch that fails before connecting is a try, with its reason", async (t) => {
  const getToken = tokens();
  const world = new World(t, {
    getToken: () =>
      world.states.length < 2 ? Promise.reject(new Error("no network")) : getToken(),
  });
  await settle();
  assert.equal(world.states.at(-1).state, "offline");
  assert.equal(world.states.at(-1).reason, "no network");
  assert.equal(world.connections.length, 0);
  await world.pass(2);
  await world.connected();
  assert.equal(world.hub.state, "connected");
});

test("a fetch that never ends is given up after 15 s", async (t) => {
  const world = new World(t, { getToken: () => new Promise(() => {}) });
  await world.pass(15);
  assert.equal(world.hub.state, "offline");
});

test("getToken without a token gives up", async (t) => {
  const world = new World(t, { getToken: () => null });
  await settle();
  const { state, code, reason } = world.states.at(-1);
  assert.deepEqual([state, code], ["closed", 4001]);
  assert.match(reason, /^token_missing/);
  assert.equal(world.connections.length, 0);
});

test("a token that is given again until it expires is asked for once a second", async (t) => {
  const world = new World(t, { getToken: () => "same" });
  const socket = await world.connected({ expires_in: 1 });
  for (let seconds = 1; seconds < 5; seconds += 1) {
    await world.pass(0.99);
    assert.deepEqual(socket.sent, []);
    await world.pass(0.01);
    socket.push({ type: "ack", id: socket.take("auth").id, expires_in: 0 });
  }
});

test("a token that no subprotocol takes gives up", async (t) => {
  const world = new World(t, { getToken: () => "not a token" });
  await settle();
  assert.equal(world.states.at(-1).code, 4000);
  assert.equal(world.states.at(-1).reason, "an address or a token that no WebSocket takes");
  assert.equal(world.hub.state, "closed");
});

// Open mode

test("a user names herself in the address", async (t) => {
  const world = new World(t, { user: "ann" });
  await world.connected();
  assert.equal(world.socket.url.searchParams.get("user"), "ann");
  assert.equal(world.socket.protocols, undefined);
});

test("a guest remains the same guest after a reconnect", async (t) => {
  const world = new World(t);
  await world.connected({ user_id: "guest-5f2c" });
  assert.equal(world.socket.url.search, "");
  await world.again({ user_id: "guest-5f2c" });
  assert.equal(world.socket.url.searchParams.get("user"), "guest-5f2c");
});

afterEach(() => {
  delete globalThis.sessionStorage;
  delete globalThis.document;
});

/** Outside of a page there are no reloads to survive. */
function page(storage = new FakeStorage()) {
  globalThis.document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  globalThis.sessionStorage = storage;
}

function reloaded(t, options) {
  t.mock.reset();
  t.mock.timers.reset();
  return new World(t, options);
}

test("and after a reload of the page", async (t) => {
  page();
  await new World(t).connected({ user_id: "guest-5f2c" });
  const world = reloaded(t);
  await settle();
  assert.equal(world.hub.user, "guest-5f2c");
  assert.equal(world.socket.url.searchParams.get("user"), "guest-5f2c");
});

test("a page whose storage is full has guests too", async (t) => {
  page();
  t.mock.method(sessionStorage, "setItem", () => {
    throw new Error("QuotaExceededError");
  });
  const world = new World(t);
  await world.connected({ user_id: "guest-5f2c" });
  assert.equal(world.hub.state, "connected");
});

test("a name or a token is not kept as a guest's", async (t) => {
  page();
  await new World(t, { user: "ann" }).connected();
  await reloaded(t, { getToken: () => "t" }).connected();
  assert.equal(sessionStorage.length, 0);
});

test("two guests in one process that is no page are two", async (t) => {
  page();
  delete globalThis.document;
  await new World(t).connected({ user_id: "guest-5f2c" });
  const world = reloaded(t);
  await settle();
  assert.equal(world.socket.url.search, "");
});

test("a page that may keep nothing has guests too", async (t) => {
  page();
  Object.defineProperty(globalThis, "sessionStorage", {
    configurable: true,
    get() {
      throw new Error("SecurityError");
    },
  });
  const world = new World(t);
  await world.connected({ user_id: "guest-5f2c" });
  assert.equal(world.hub.user, "guest-5f2c");
});
