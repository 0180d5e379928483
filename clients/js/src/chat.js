// The reconnecting chat client of the FastAPI tutorials, for the doors at /ws….

import { call } from "./events.js";
import { Link, address } from "./link.js";

const backoff = (tries) => Math.min(30, 2 ** tries) * (0.5 + Math.random() / 2);

/** Connects at once. Assign `onMessage` and `onState`, or override them. */
export class ChatClient {
  #link;

  /** `token` is sent as `?token=`, where the tutorials expect it. */
  constructor(url, token, { WebSocket } = {}) {
    const target = address(url);
    if (token) target.searchParams.set("token", token);
    this.#link = new Link(
      {
        target: async () => [target.href],
        opened: () => this.#link.established(),
        received: (frame) => this.#received(frame),
        changed: (event) => call((told) => this.onState(told), event),
        backoff,
      },
      WebSocket,
    );
    this.#link.start();
  }

  onMessage(data) {}

  /** `{state, code?, reason?, delay?}`: connecting, connected, offline, closed. */
  onState(event) {}

  /** Send `{"text": text}`, or an object as it is. Throws while there is no connection: these
   *  doors have no keys, so nothing is kept to be sent twice. */
  send(text) {
    if (this.#link.state !== "connected") throw new Error("not connected");
    this.#link.send(JSON.stringify(typeof text === "string" ? { text } : text));
  }

  disconnect() {
    this.#link.stop();
  }

  #received(frame) {
    if (frame?.type === "ping") this.#link.send('{"type":"pong"}');
    else call((data) => this.onMessage(data), frame);
  }
}
