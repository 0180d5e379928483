// Members: kept current by versions, asked for where one was missed.

import assert from "node:assert/strict";
import { test } from "node:test";
import { World } from "./fake-server.mjs";

const member = (user, info = null, sessions = 1) => ({ user, info, sessions });
const change = (type, user, version, count) => ({
  ...{ type, room: "tea", user, count, version },
  ...(type === "join" && { info: null }),
});
const names = (room) => room.members && [...room.members.keys()];

async function tea(t, { users = ["ann", "bob"], version = 9, ...fields } = {}) {
  const world = new World(t);
  const members = users && users.map((user) => member(user));
  const count = users ? users.length : 1250;
  const room = await world.room("tea", {}, { members, count, version, ...fields });
  return { world, room, socket: world.socket };
}

/** Answer the oldest question for members. */
function list(socket, users, version, fields = {}) {
  const { id } = socket.take("members");
  const members = users && users.map((user) => member(user));
  const count = users ? users.length : 300;
  socket.push({
    type: "members",
    id,
    room: "tea",
    members,
    count,
    version,
    more: false,
    ...fields,
  });
}

test("joined brings the members, and tells of nobody in particular", async (t) => {
  const { world, room } = await tea(t);
  assert.deepEqual(names(room), ["ann", "bob"]);
  assert.equal(room.count, 2);
  assert.deepEqual(world.seen(), []);
});

test("join and leave are applied in order of their versions", async (t) => {
  const { world, room, socket } = await tea(t);
  let changes = 0;
  room.on("members", () => (changes += 1));
  socket.push({ ...change("join", "cleo", 10, 3), info: { name: "Cleo" } });
  socket.push(change("leave", "bob", 11, 2));
  assert.deepEqual(names(room), ["ann", "cleo"]);
  assert.deepEqual(room.members.get("cleo"), member("cleo", { name: "Cleo" }));
  assert.equal(room.count, 2);
  assert.deepEqual(
    world.seen().map(([type, { user }]) => [type, user]),
    [
      ["join", "cleo"],
      ["leave", "bob"],
    ],
  );
  assert.equal(changes, 2);
});

test("a version that is not above ours is ignored", async (t) => {
  const { world, room, socket } = await tea(t);
  socket.push(change("leave", "bob", 9, 1), change("leave", "bob", 8, 1));
  socket.push({ type: "presence", room: "tea", count: 7, version: 9 });
  assert.deepEqual(names(room), ["ann", "bob"]);
  assert.equal(room.count, 2);
  assert.deepEqual(world.seen(), []);
});

test("a missed version asks for the members, page by page, and holds back what comes", async (t) => {
  const { world, room, socket } = await tea(t);
  socket.push(change("join", "dan", 12, 4));
  assert.deepEqual(names(room), ["ann", "bob"]);
  const first = socket.take("members", { room: "tea" });
  assert.equal("after" in first, false);
  const page = { type: "members", room: "tea", count: 3, more: true };
  socket.push({ ...page, id: first.id, members: [member("ann"), member("cleo")], version: 12 });
  socket.push(change("leave", "cleo", 13, 3), change("join", "eve", 14, 4));
  const second = socket.take("members", { after: "cleo" });
  assert.deepEqual(names(room), ["ann", "bob"], "not before the last page");
  const last = [member("dan"), member("eve")];
  socket.push({ ...page, id: second.id, members: last, version: 14, more: false });
  assert.deepEqual(names(room), ["ann", "dan", "eve"]);
  assert.equal(room.count, 4);
  socket.push(change("join", "fay", 15, 5));
  assert.deepEqual(names(room), ["ann", "dan", "eve", "fay"]);
  const told = world.seen().map(([type, { user }]) => `${type} ${user}`);
  assert.deepEqual(told.slice(0, 1), ["leave bob"]);
  assert.equal(told.at(-1), "join fay");
});

test("one missed again meanwhile is asked for again", async (t) => {
  const { room, socket } = await tea(t);
  socket.push(change("join", "dan", 12, 4), change("join", "fay", 15, 5));
  list(socket, ["ann", "dan"], 12);
  list(socket, ["ann", "dan", "fay"], 15);
  assert.deepEqual(names(room), ["ann", "dan", "fay"]);
});

test("a room that became crowded meanwhile lists nobody", async (t) => {
  const { room, socket } = await tea(t);
  socket.push(change("join", "dan", 12, 4));
  list(socket, null, 300);
  assert.equal(room.members, null);
  assert.equal(room.count, 300);
});

test("crowded: the count alone, and the list once it is calm again", async (t) => {
  const { world, room, socket } = await tea(t, { users: null, version: 3071 });
  assert.equal(room.members, null);
  socket.push({ type: "presence", room: "tea", count: 1300, version: 3090 });
  assert.equal(room.count, 1300);
  socket.push({ type: "presence", room: "tea", count: 1, version: 4102, members: [member("ann")] });
  assert.deepEqual(names(room), ["ann"]);
  socket.push(change("join", "bob", 4103, 2));
  assert.deepEqual(names(room), ["ann", "bob"]);
  assert.deepEqual(
    world.seen().map(([type, { user }]) => [type, user]),
    [["join", "bob"]],
  );
});

test("a list becomes crowded", async (t) => {
  const { world, room, socket } = await tea(t);
  socket.push({ type: "presence", room: "tea", count: 201, version: 220 });
  assert.equal(room.members, null);
  assert.deepEqual(world.seen(), [], "nobody left");
});

test("without presence nothing is kept", async (t) => {
  const world = new World(t);
  const room = await world.room("tea");
  assert.equal(room.members, null);
  assert.equal(room.count, null);
});

test("back after an absence: who came and went meanwhile is told", async (t) => {
  const { world, room } = await tea(t);
  const socket = await world.again();
  assert.deepEqual(names(room), ["ann", "bob"], "what is known stays shown");
  const members = ["ann", "cleo"].map((user) => member(user));
  socket.admit({ outcome: "ok", members, count: 2, version: 20 });
  assert.deepEqual(
    world.seen().map(([type, event]) => [type, event.user]),
    [
      ["leave", "bob"],
      ["join", "cleo"],
      ["recovered", undefined],
    ],
  );
});

test("an answer that was lost with the connection leaves nothing held back", async (t) => {
  const { world, room, socket } = await tea(t);
  socket.push(change("join", "dan", 12, 4));
  const back = await world.again();
  assert.deepEqual(names(room), ["ann", "bob"]);
  assert.deepEqual(world.seen(), []);
  back.admit({ outcome: "ok", members: [member("ann")], count: 1, version: 20 });
  back.push(change("join", "eve", 21, 2));
  assert.deepEqual(names(room), ["ann", "eve"]);
});

test("without the grant to ask it goes on with what it is told, and says so", async (t) => {
  const { world, room, socket } = await tea(t);
  const errors = [];
  world.hub.on("error", ({ code }) => errors.push(code));
  socket.push(change("join", "dan", 12, 4));
  const { id } = socket.take("members");
  socket.push({ type: "error", id, code: "not_granted", message: "", retry: false });
  assert.deepEqual(errors, ["not_granted"]);
  socket.push(change("join", "eve", 13, 5));
  assert.deepEqual(names(room), ["ann", "bob", "dan", "eve"]);
  assert.equal(room.count, 5);
});
