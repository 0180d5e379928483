// hubbub: rooms over one WebSocket that comes back by itself. The whole of what is public; names
// that begin with an underscore are for these files only.

export { ChatClient } from "./chat.js";
export { Hubbub } from "./client.js";
export { HubbubError } from "./events.js";
