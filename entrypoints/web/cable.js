// A WebSocket with a cable that can be pulled, so that a page can show what a lost network does. The
// client is told nothing of it: to both ends the connection is lost, as it would be without Wi-Fi.

const LOST = { code: 1006, reason: "" };
const PULLED = 3001; // no goodbye: the server counts it as a loss

export class Cable {
  static pulled = false;
  static #sockets = new Set();
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;
  #socket;

  constructor(url, protocols = []) {
    if (Cable.pulled) {
      setTimeout(() => this.onclose?.(LOST));
      return;
    }
    Cable.#sockets.add(this);
    this.#socket = new WebSocket(url, protocols);
    this.#socket.onopen = (event) => this.onopen?.(event);
    this.#socket.onmessage = (event) => this.onmessage?.(event);
    this.#socket.onclose = (event) => {
      Cable.#sockets.delete(this);
      this.onclose?.(event);
    };
  }

  static pull() {
    Cable.pulled = true;
    for (const socket of Cable.#sockets) socket.#lose();
  }

  send(text) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(text);
  }

  close(code, reason) {
    this.#socket?.close(code, reason);
  }

  #lose() {
    const { onclose } = this;
    this.onopen = this.onmessage = this.onclose = null;
    this.#socket.close(PULLED);
    onclose?.(LOST);
  }
}
