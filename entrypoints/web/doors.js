// The doors of this server, with frames to try at each. `kind`: how its frames are sent.

const JSON_FRAMES = [{ text: "hello" }, { any: ["JSON", 1, null] }, "broken {"];

export const DOORS = [
  {
    path: "/v1/ws?user=ann",
    name: "/v1/ws",
    about: "The main door: any number of rooms on one connection.",
    frames: {
      join: { type: "join", id: 1, room: "lobby", history: 5 },
      publish: { type: "publish", id: 2, room: "lobby", data: { text: "hi" }, key: "k1" },
      "the same key": { type: "publish", id: 3, room: "lobby", data: { text: "hi" }, key: "k1" },
      ephemeral: { type: "publish", id: 4, room: "lobby", data: { typing: true }, ephemeral: true },
      history: { type: "history", id: 5, room: "lobby", limit: 10 },
      members: { type: "members", id: 6, room: "lobby" },
      leave: { type: "leave", id: 7, room: "lobby" },
      ping: { type: "ping", id: 8 },
      "an error": { type: "dance", id: 9 },
    },
  },
  { path: "/ws", about: "Echo of JSON, with the server's time.", frames: JSON_FRAMES },
  {
    path: "/ws/binary",
    about: "Echo of binary frames. Write bytes in hexadecimal.",
    kind: "binary",
    frames: ["01 02 03", "68 75 62 62 75 62"],
  },
  { path: "/ws/bea", name: "/ws/{client_id}", about: "The room lobby: any JSON goes to everybody.", frames: JSON_FRAMES },
  {
    path: "/ws/rooms/lobby/cleo",
    name: "/ws/rooms/{room_id}/{user_id}",
    about: "One room, in text.",
    frames: [{ text: "hello from cleo" }, ["not", "an", "object"]],
  },
  {
    path: "/ws/scalable/dan",
    name: "/ws/scalable/{client_id}",
    about: "Everybody on every node, in the room chat:global.",
    frames: [{ text: "hello, all nodes" }],
  },
  {
    path: "/ws/heartbeat/eve",
    name: "/ws/heartbeat/{client_id}",
    about: "Asks ping, and closes with 4103 when no pong comes. Other JSON is acknowledged.",
    frames: [{ type: "pong" }, { beat: 1 }],
  },
  {
    path: "/ws/secure?token=PASTE-A-TOKEN-HERE",
    name: "/ws/secure",
    about: "Opens for a good token only, and says why with 4001 otherwise. The server prints one when it starts.",
    frames: [{ reading: 42 }],
  },
  {
    path: "/v1/events?room=lobby&history=5",
    name: "/v1/events",
    about: "An event stream of up to 16 rooms, for readers. Nothing can be sent here.",
    kind: "events",
    frames: [],
  },
];

/** `[label, text]` of each frame to try. */
export function examples({ frames }) {
  const text = (frame) => (typeof frame === "string" ? frame : JSON.stringify(frame));
  if (Array.isArray(frames)) return frames.map((frame) => [text(frame), text(frame)]);
  return Object.entries(frames).map(([label, frame]) => [label, text(frame)]);
}

/** Bytes of hexadecimal digits; null for anything else. */
export function bytes(text) {
  const digits = text.replace(/\s/g, "");
  if (!/^(?:[0-9a-f]{2})*$/i.test(digits)) return null;
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

export function hexadecimal(data) {
  return Array.from(new Uint8Array(data), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
