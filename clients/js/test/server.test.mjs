// Against the real server. What comes is waited for; nothing sleeps.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { noServer, serve, serveAll, token, unhurried, wire, withTokens } from "./real-server.mjs";
import { ChatClient, Hubbub } from "./subject.mjs";

const HASTY = [0.01, 0.1];
const options = { skip: noServer, timeout: 50_000 };

/** Whatever is told, to be waited for. */
class Tape {
  #notes = [];
  #wake = () => {};

  note = (event) => {
    this.#notes.push(event);
    this.#wake();
  };

  get all() {
    return this.#notes;
  }

  /** The first event that fits, at once or later. */
  async until(fits) {
    for (;;) {
      const found = this.#notes.find(fits);
      if (found !== undefined) return found;
      await new Promise((resolve) => (this.#wake = resolve));
    }
  }

  async count(number) {
    await this.until(() => this.#notes.length >= number);
    return this.#notes;
  }
}

function client(t, url, more = {}) {
  const hub = new Hubbub(url, { backoff: HASTY, ...more });
  hub.states = new Tape();
  hub.on("state", hub.states.note);
  t.after(() => hub.close());
  return hub;
}

function enter(hub, name, join = {}) {
  const room = hub.join(name, join);
  room.tape = new Tape();
  room.on("message", room.tape.note);
  room.told = new Tape();
  for (const type of ["join", "leave", "recovered", "gap", "removed"]) {
    room.on(type, (event) => room.told.note({ type, ...event }));
  }
  return room;
}

const seqs = (room) => room.tape.all.map(({ seq }) => seq);
const upTo = (last, first = 1) => Array.from({ length: last - first + 1 }, (_, n) => n + first);

describe("in open mode", options, () => {
  const server = serveAll(unhurried, '[[rooms]]\nmatch = "*"\nhistory_size = 2000\n');

  test("two people talk, see each other, and leave", async (t) => {
    const ann = enter(client(t, server.url, { user: "ann" }), "talk");
    await ann.joined;
    const bob = enter(client(t, server.url, { user: "bob" }), "talk");
    await bob.joined;
    await ann.told.until(({ type, user }) => type === "join" && user === "bob");
    const position = await ann.publish({ text: "hi" });
    assert.equal(position.seq, 1);
    const heard = await bob.tape.until(({ seq }) => seq === 1);
    assert.deepEqual([heard.from, heard.data, heard.id], ["ann", { text: "hi" }, position.id]);
    assert.deepEqual([...bob.members.keys()], ["ann", "bob"]);
    assert.equal(bob.count, 2);
    await bob.leave();
    await ann.told.until(({ type, user }) => type === "leave" && user === "bob");
    assert.deepEqual([...ann.members.keys()], ["ann"]);
  });

  test("a guest gets a name and keeps it", async (t) => {
    const cable = await wire(t, server.port);
    const hub = client(t, cable.url);
    await enter(hub, "guests").joined;
    const name = hub.user;
    assert.match(name, /^guest-/);
    cable.cut();
    await hub.rooms.get("guests").told.until(({ type }) => type === "recovered");
    assert.equal(hub.user, name);
  });

  test("more history than a page arrives in order, and is read backwards", async (t) => {
    const ann = enter(client(t, server.url, { user: "ann" }), "pages");
    await Promise.all(upTo(100).map((number) => ann.publish(number)));
    const bob = enter(client(t, server.url, { user: "bob" }), "pages", { history: 100 });
    await bob.tape.count(100);
    assert.deepEqual(seqs(bob), upTo(100));
    const newest = await bob.history({ limit: 30 });
    assert.deepEqual(
      newest.messages.map(({ seq }) => seq),
      upTo(100, 71),
    );
    assert.equal(newest.more, true);
    const older = await bob.history({ before: 71, limit: 70 });
    assert.deepEqual([older.messages.length, older.more], [70, false]);
    const later = await bob.history({ after: 95 });
    assert.deepEqual(
      later.messages.map(({ data }) => data),
      upTo(100, 96),
    );
  });

  test("silent messages leave no hole, whoever else talks", async (t) => {
    const hubs = ["ann", "bob"].map((user) => client(t, server.url, { user }));
    const rooms = hubs.map((hub) => enter(hub, "silence"));
    await Promise.all(rooms.map(({ joined }) => joined));
    const published = await Promise.all(
      upTo(200).map((n) => rooms[n % 2].publish(n, { echo: false })),
    );
    await Promise.all(rooms.map(({ tape }) => tape.count(100)));
    for (const [index, room] of rooms.entries()) {
      assert.deepEqual(
        seqs(room),
        [...seqs(room)].sort((a, b) => a - b),
      );
      assert.equal(new Set(seqs(room)).size, 100);
      assert(room.tape.all.every(({ from }) => from !== hubs[index].user));
    }
    for (const hub of hubs) await hub.publish("silence", "last");
    assert.equal(new Set(published.map(({ seq }) => seq)).size, 200);
    await Promise.all(rooms.map(({ tape }) => tape.until(({ seq }) => seq === 202)));
    for (const hub of hubs) {
      assert.deepEqual(
        hub.states.all.map(({ state }) => state),
        ["connecting", "connected"],
      );
    }
  });

  test("1,000 messages through 20 cuts: each once, in order, for sender and listener", async (t) => {
    const cable = await wire(t, server.port);
    const other = await wire(t, server.port);
    const ann = enter(client(t, cable.url, { user: "ann" }), "cuts");
    const bob = enter(client(t, other.url, { user: "bob" }), "cuts");
    await Promise.all([ann.joined, bob.joined]);
    const published = [];
    for (const number of upTo(1000)) {
      published.push(ann.publish(number));
      if (number % 50 === 25) await ann.tape.until(({ data }) => data >= number - 20);
      if (number % 50 === 0) (number % 100 ? cable : other).cut();
    }
    const positions = await Promise.all(published);
    assert.equal(cable.cuts + other.cuts, 20);
    for (const room of [ann, bob]) {
      await room.tape.until(({ seq }) => seq === 1000);
      assert.deepEqual(
        room.tape.all.map(({ data }) => data),
        upTo(1000),
      );
      assert.deepEqual(seqs(room), upTo(1000));
      assert(!room.told.all.some(({ type }) => type === "gap"));
    }
    assert.deepEqual(
      positions.map(({ seq }) => seq),
      upTo(1000),
    );
  });

  test("what reached the server before a cut is not stored twice", async (t) => {
    const cable = await wire(t, server.port);
    const sender = client(t, cable.url, { user: "ann" });
    const listener = enter(client(t, server.url, { user: "bob" }), "twice");
    await listener.joined;
    await sender.states.until(({ state }) => state === "connected");
    cable.mute(); // the listener hears of it, and no answer comes
    const published = sender.publish("twice", "once");
    await listener.tape.count(1);
    cable.cut();
    const position = await published;
    assert.equal(position.seq, 1);
    await sender.publish("twice", "next");
    await listener.tape.count(2);
    assert.deepEqual(seqs(listener), [1, 2]);
  });

  test("a personal room is reached, and resumed", async (t) => {
    const cable = await wire(t, server.port);
    const ann = enter(client(t, cable.url, { user: "ann" }), "@ann");
    const bob = client(t, server.url, { user: "bob" });
    await ann.joined;
    await bob.publish("@ann", 1);
    await ann.tape.count(1);
    cable.cut();
    await bob.publish("@ann", 2);
    await bob.publish("@ann", 3);
    await ann.tape.count(3);
    await bob.publish("@ann", 4);
    await ann.tape.count(4);
    assert.deepEqual(
      ann.tape.all.map(({ data }) => data),
      [1, 2, 3, 4],
    );
  });

  test("a backend puts somebody into a room and takes them out", async (t) => {
    const hub = client(t, server.url, { user: "ann" });
    const entered = new Tape();
    hub.on("entered", (room) => {
      room.on("message", entered.note);
      room.on("removed", entered.note);
    });
    await hub.states.until(({ state }) => state === "connected");
    const place = `${server.url.replace("ws", "http")}/v1/rooms/put/members/ann`;
    assert((await fetch(place, { method: "PUT" })).ok);
    await hub.publish("put", "hi");
    await entered.until(({ data }) => data === "hi");
    assert((await fetch(`${place}?reason=enough`, { method: "DELETE" })).ok);
    const { code, reason } = await entered.until(({ code }) => code);
    assert.deepEqual([code, reason], ["kicked", "enough"]);
    assert.equal(hub.rooms.size, 0);
  });

  test("the frame limit is the server's, to the byte", async (t) => {
    const hub = client(t, server.url, { user: "ann" });
    await hub.states.until(({ state }) => state === "connected");
    const frame = {
      type: "publish",
      room: "large",
      data: "",
      id: "0".repeat(32),
      key: "0".repeat(32),
    };
    const room = hub.limits.frame_bytes - JSON.stringify(frame).length;
    assert.equal((await hub.publish("large", "x".repeat(room))).seq, 1);
    const over = hub.publish("large", "x".repeat(room + 1));
    await assert.rejects(over, { code: "message_too_large" });
    assert.equal((await hub.publish("large", "still here")).seq, 2);
  });

  test("a name the server does not take is told in its words", async (t) => {
    const hub = client(t, server.url, { user: "ann" });
    const room = enter(hub, "not a name");
    await assert.rejects(room.joined, { code: "bad_name" });
    await assert.rejects(hub.publish("not a name", 1), { code: "bad_name" });
    await assert.rejects(hub.publish("tea", "\ud800"), { code: "bad_frame" });
    const stranger = client(t, server.url, { user: "not a name" });
    const { code } = await stranger.states.until(({ state }) => state === "closed");
    assert.equal(code, 4000);
  });
});

describe("with limits", options, () => {
  const rules = [
    '[[rooms]]\nmatch = "slow"\nrate = 20',
    '[[rooms]]\nmatch = "short"\nhistory_size = 5',
  ];
  const server = serveAll({}, rules.join("\n"));

  test("at the default rates nothing is refused", async (t) => {
    const refused = [];
    class Watched extends WebSocket {
      set onmessage(heard) {
        super.onmessage = (event) => {
          if (event.data.startsWith('{"type":"error"')) refused.push(event.data);
          heard(event);
        };
      }
    }
    const hub = client(t, server.url, { user: "ann", WebSocket: Watched });
    const positions = await Promise.all(upTo(260).map((number) => hub.publish("tea", number)));
    assert.deepEqual(
      positions.map(({ seq }) => seq),
      upTo(260),
    );
    assert.deepEqual(refused, []);
  });

  test("more rooms than the server takes commands at once are all joined", async (t) => {
    const hub = client(t, server.url, { user: "ann" });
    const rooms = upTo(128).map((number) => hub.join(`room-${number}`));
    await Promise.all(rooms.map(({ joined }) => joined));
    assert.equal(hub.states.all.length, 2);
  });

  test("a room with a rate of its own takes everything in the end", async (t) => {
    const hub = client(t, server.url, { user: "ann" });
    const room = enter(hub, "slow");
    await room.joined;
    await Promise.all(upTo(60).map((number) => room.publish(number)));
    await room.tape.count(60);
    assert.deepEqual(
      room.tape.all.map(({ data }) => data).sort((a, b) => a - b),
      upTo(60),
    );
  });

  test("away for longer than the room keeps: a gap, and the rest", async (t) => {
    const cable = await wire(t, server.port);
    const ann = enter(client(t, cable.url, { user: "ann" }), "short");
    const bob = client(t, server.url, { user: "bob" });
    await ann.joined;
    await bob.publish("short", 1);
    await ann.tape.count(1);
    cable.target = 9; // nobody answers there
    cable.cut();
    for (const number of upTo(20, 2)) await bob.publish("short", number);
    cable.target = server.port;
    const { outcome, first } = await ann.told.until(({ type }) => type === "gap");
    assert.deepEqual([outcome, first], ["gap", 16]);
    await ann.tape.until(({ seq }) => seq === 20);
    assert.deepEqual(seqs(ann), [1, ...upTo(20, 16)]);
  });

  test("another server in its place: reset, and what was sent is unknown", async (t) => {
    const first = await serve(t);
    const cable = await wire(t, first.port);
    const ann = enter(client(t, cable.url, { user: "ann" }), "moved", { history: 10 });
    await ann.publish(1);
    await ann.tape.count(1);
    first.freeze();
    const sent = assert.rejects(ann.publish(2), { code: "unknown" });
    cable.target = server.port;
    cable.cut();
    await ann.told.until(({ type, outcome }) => type === "gap" && outcome === "reset");
    await sent;
    assert.equal((await ann.publish(3)).seq, 1);
    await ann.tape.count(2);
  });
});

test("a server that stops says when to come back", options, async (t) => {
  const server = await serve(t);
  const hub = client(t, server.url, { user: "ann" });
  await hub.states.until(({ state }) => state === "connected");
  const stopped = server.stop();
  const offline = await hub.states.until(({ state }) => state === "offline");
  assert.equal(offline.code, 4200);
  assert.equal(offline.reason, "restarting");
  await stopped;
});

describe("with tokens", options, () => {
  const server = serveAll({ ...withTokens, PING_INTERVAL: 0.2 });

  test("a token is renewed on the connection, before it runs out", async (t) => {
    const asked = new Tape();
    const getToken = () => {
      asked.note(1);
      return token("ann", 1.5);
    };
    const hub = client(t, server.url, { getToken });
    const room = enter(hub, "tea");
    await asked.count(4);
    assert.equal((await room.publish(1)).seq, 1);
    assert.deepEqual(
      hub.states.all.map(({ state }) => state),
      ["connecting", "connected"],
    );
  });

  test("asleep past the token's end: it comes back by itself, once", async (t) => {
    let asked = 0;
    const getToken = () => token("ann", (asked += 1) === 1 ? -60 : 600);
    const hub = client(t, server.url, { getToken });
    const room = enter(hub, "tea");
    await room.joined;
    assert.equal(asked, 2);
    assert.deepEqual(
      hub.states.all.map(({ state }) => state),
      ["connecting", "offline", "connecting", "connected"],
    );
    const never = client(t, server.url, { getToken: () => token("ann", -60) });
    const { code, reason } = await never.states.until(({ state }) => state === "closed");
    assert.equal(code, 4001);
    assert.match(reason, /^token_expired/);
  });

  test("no token, or a bad one, is final and says why", async (t) => {
    const bad = client(t, server.url, { getToken: () => token("ann").slice(0, -5) });
    const { code, reason } = await bad.states.until(({ state }) => state === "closed");
    assert.equal(code, 4001);
    assert.match(reason, /^token_invalid/);
  });

  test("grants are told by their errors", async (t) => {
    const getToken = () => token("ann", 600, { rooms: { tea: ["join"] }, info: { name: "Ann" } });
    const hub = client(t, server.url, { getToken });
    const tea = enter(hub, "tea");
    await tea.joined;
    assert.deepEqual(tea.members.get("ann").info, { name: "Ann" });
    await assert.rejects(tea.publish(1), { code: "not_granted", retry: false });
    await assert.rejects(tea.history(), { code: "not_granted" });
    await assert.rejects(enter(hub, "staff").joined, { code: "not_granted" });
  });

  test("a new token that does not open a room takes us out of it", async (t) => {
    let asked = 0;
    const getToken = () => {
      asked += 1;
      return token("ann", 1.5, { rooms: { [asked === 1 ? "*" : "tea"]: ["join", "publish"] } });
    };
    const hub = client(t, server.url, { getToken });
    const [tea, jam] = [enter(hub, "tea"), enter(hub, "jam")];
    const { code } = await jam.told.until(({ type }) => type === "removed");
    assert.equal(code, "not_granted");
    assert.equal(tea.live, true);
  });

  test("a dead link is noticed, and come back from", async (t) => {
    const cable = await wire(t, server.port);
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const hub = client(t, cable.url, { getToken: () => token("ann") });
    await enter(hub, "tea").joined;
    cable.mute();
    t.mock.timers.tick(10_201);
    assert.match(hub.states.all.at(-1).reason, /^nothing heard/);
    t.mock.timers.tick(100);
    await hub.rooms.get("tea").told.until(({ type }) => type === "recovered");
  });

  // The tutorial doors

  function chat(t, path, name = "ann") {
    const chat = new ChatClient(server.url + path, token(name));
    const tape = new Tape();
    chat.onMessage = tape.note;
    chat.onState = ({ state, code }) => tape.note({ state, code });
    t.after(() => chat.disconnect());
    return { chat, tape, open: tape.until(({ state }) => state === "connected") };
  }

  const without = ({ ts, seq, ...rest }) => rest;

  for (const [path, answer] of [
    ["/ws", { echo: { text: "hi" } }],
    ["/ws/ann", { type: "message", from: "ann", data: { text: "hi" } }],
    ["/ws/rooms/tea/ann", { type: "message", from: "ann", text: "hi" }],
    ["/ws/scalable/ann", { type: "message", from: "ann", text: "hi" }],
    ["/ws/secure", { type: "ack", received: { text: "hi" } }],
    ["/ws/heartbeat/ann", { type: "ack", received: { text: "hi" } }],
  ]) {
    test(path, async (t) => {
      const { chat: ann, tape, open } = chat(t, path);
      await open;
      ann.send("hi");
      const fits = ({ type, echo }) => echo || type === "message" || type === "ack";
      assert.deepEqual(without(await tape.until(fits)), answer);
    });
  }

  test("two people in a room", async (t) => {
    const ann = chat(t, "/ws/rooms/talk/ann");
    await ann.open;
    const bob = chat(t, "/ws/rooms/talk/bob", "bob");
    await ann.tape.until(({ type, user }) => type === "join" && user === "bob");
    await bob.open;
    bob.chat.send("hi");
    const { from, text } = await ann.tape.until(({ type }) => type === "message");
    assert.deepEqual([from, text], ["bob", "hi"]);
    bob.chat.disconnect();
    await ann.tape.until(({ type, user }) => type === "leave" && user === "bob");
  });

  test("another's name is final", async (t) => {
    const { tape } = chat(t, "/ws/rooms/talk/bob", "ann");
    assert.equal((await tape.until(({ state }) => state === "closed")).code, 4003);
  });

  test("it comes back after a cut", async (t) => {
    const cable = await wire(t, server.port);
    const tape = new Tape();
    const again = new ChatClient(`${cable.url}/ws`, token("ann"));
    t.after(() => again.disconnect());
    again.onState = ({ state }) => tape.note(state);
    again.onMessage = tape.note;
    await tape.until((state) => state === "connected");
    cable.cut();
    await tape.count(5);
    assert.deepEqual(tape.all, ["connecting", "connected", "offline", "connecting", "connected"]);
    again.send("back");
    await tape.until(({ echo }) => echo);
  });
});
