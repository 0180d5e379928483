// The client as a process: commands as JSON lines on stdin, events as JSON lines on stdout. For
// tests in another language that hold several clients to one behaviour. With --token a token is
// asked for by a need_token event and given by a token command.

import { createInterface } from "node:readline";
import { Hubbub } from "./subject.mjs";

const asked = new Map(); // ref → how to give the token
let hub;

function tell(event, details = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...details })}\n`);
}

function getToken() {
  const ref = `token-${asked.size + 1}`;
  tell("need_token", { ref });
  return new Promise((resolve) => asked.set(ref, resolve));
}

const failed = (ref) => (error) => tell("failed", { ref, code: error.code ?? error.name });

const does = {
  connect({ url, options = {} }) {
    const { WebSocket, ...rest } = options;
    if (process.argv.includes("--token")) rest.getToken = getToken;
    hub = new Hubbub(url, rest);
    hub.on("state", (event) => tell("state", event));
    hub.on("error", (error) => process.stderr.write(`${error.stack}\n`));
  },

  join({ room: name, ...options }) {
    const room = hub.join(name, options);
    room.joined.then(
      () => tell("joined", { room: name }),
      () => {}, // told as `removed` or by the state
    );
    room.on("message", (message) => tell("message", message));
    room.on("join", ({ user }) => tell("join", { room: name, user }));
    room.on("leave", ({ user }) => tell("leave", { room: name, user }));
    room.on("recovered", ({ count }) => tell("recovered", { room: name, count }));
    room.on("gap", (gap) => tell("gap", { room: name, ...gap }));
    room.on("removed", ({ code }) => tell("removed", { room: name, code }));
  },

  publish({ room, data, ref, ephemeral, echo }) {
    hub.publish(room, data, { ephemeral, echo }).then((published) => {
      const { log, seq, duplicate = false } = published ?? {};
      tell("published", { ref, position: published && { log, seq }, duplicate });
    }, failed(ref));
  },

  leave({ room }) {
    hub.rooms.get(room).leave();
  },

  history({ room, ref, before, after, limit }) {
    const page = hub.rooms.get(room).history({ before, after, limit });
    page.then((value) => tell("reply", { ref, value }), failed(ref));
  },

  members({ room, ref }) {
    const { members } = hub.rooms.get(room);
    tell("reply", { ref, value: members && [...members.values()] });
  },

  token({ ref, token }) {
    asked.get(ref)(token);
  },

  close() {
    hub.close();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  does[command.do](command);
}
hub?.close();
