// Checked by `tsc`, never run: the types fit the uses in README.md, refuse what is wrong, and the
// source has everything that they declare.

import * as declared from "hubbub";
import { ChatClient, Hubbub, HubbubError, type Gap, type Position, type Room } from "hubbub";
import * as written from "../src/index.js";

interface Line {
  text: string;
}

const hub = new Hubbub("ws://localhost:8000/v1/ws", {
  getToken: async () => (await fetch("/token")).text(),
  storage: localStorage,
});
const stop: () => void = hub.on("state", ({ state, delay }) => console.log(state, delay));
stop();
hub.on("failed", ({ key, error }) => console.log(key, error.message));

const room = hub.join<Line>("chat:tea", {
  history: 50,
  onMessage: ({ seq, from, data }) => console.log(seq, from, data.text.length),
});
room.on("gap", (gap) => console.log(mark(gap)));
room.on("join", ({ user, info }) => console.log(user, info));
const position: Position = await room.publish({ text: "hi" });
const maybe = await room.publish({ typing: true }, { ephemeral: true });
// @ts-expect-error: an ephemeral message has no position
maybe.seq;
// @ts-expect-error: lines have a text
await room.publish({ txt: "hi" });
// @ts-expect-error: there is no such event
hub.on("connected", () => {});
// @ts-expect-error: rooms come from join
new declared.Room();
const { messages } = await room.history({ before: position.seq, limit: 20 });
const texts: string[] = messages.map((message) => message.data.text);
const names: string[] = [...(room.members?.keys() ?? [])];
await room.leave();

function mark(gap: Gap): string {
  switch (gap.outcome) {
    case "gap":
      return `lost before ${gap.first}`;
    case "rewound":
      return `withdrawn above ${gap.valid_to}`;
    case "reset":
      return "another log";
  }
}

const chat = new ChatClient("ws://localhost:8000/ws/rooms/tea/ann");
chat.onMessage = (data) => console.log(data.text);
chat.send("hi");
chat.disconnect();

const error: HubbubError = new HubbubError("closed");
const retry: boolean = error.retry;
console.log(texts, names, retry);

// What is declared is there.
type Shape<T> = { [Name in keyof T]: unknown };
const client: Shape<Hubbub> = new written.Hubbub("ws://localhost");
const entered: Shape<Room> = new written.Hubbub("ws://localhost").join("chat:tea");
const tutorial: Shape<ChatClient> = new written.ChatClient("ws://localhost", null);
const failure: Shape<HubbubError> = new written.HubbubError("closed");
const everything: Record<Exclude<keyof typeof declared, "Room">, unknown> = written;
console.log(client, entered, tutorial, failure, everything);
