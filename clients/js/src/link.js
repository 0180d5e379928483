// A connection that comes back: close codes, backoff, dead links. It knows JSON, but no frame.
// Times are seconds.

const CONNECT = 15; // until the owner calls `established`, getting a token included
const PROBE = 5; // for an answer when there is a reason to doubt
const FAREWELL = 5; // from the announcement of a close to the close
const STABLE = 5; // a connection that lived this long begins the row of tries afresh
const NO_CLOSE = 0.1; // for the close behind an error: Node tells of none where nobody answered
const LONGEST = 2e6; // more is too much for a timer
const CUT = 3001; // our own close: to the server a loss, so that nobody sees us leave

const within = (code, first) => code >= first && code < first + 100;
const isFinal = (code) => [1000, 1007, 1009].includes(code) || within(code, 4000);

/** The address as a WebSocket takes it; relative to the page if there is one. */
export function address(url) {
  const found = new URL(url, globalThis.location?.href);
  found.protocol = found.protocol.replace("http", "ws");
  found.hash = "";
  return found;
}

/** `owner` has `target()` → promise of the WebSocket constructor's arguments (an error with `close`
 *  ends like a close with that code), `received(frame)`, `changed({state, …})`, `backoff(tries)`,
 *  and where it wants `opened()`, `probe()` and `pardons(cause)`: come back after a final code. */
export class Link {
  state = "closed"; // connecting, connected, offline (until the next try), closed
  #owner;
  #WebSocket;
  #socket = null;
  #turn = null; // one for each try; what belongs to another is late
  #timer;
  #silence;
  #since = NaN;
  #cause = null;
  #tries = 0;
  #notBefore = 0; // as `#since` by a clock that nobody sets

  constructor(owner, WebSocket = globalThis.WebSocket) {
    if (!WebSocket)
      throw new TypeError("no WebSocket here: Node 20 needs --experimental-websocket");
    this.#owner = owner;
    this.#WebSocket = WebSocket;
  }

  start() {
    if (this.state.startsWith("connect")) return;
    if (this.state === "closed") this.#listen("addEventListener");
    this.state = "connecting";
    this.#cause = null;
    this.#expect(CONNECT);
    const turn = (this.#turn = {});
    queueMicrotask(() => this.#open(turn)); // whoever has just made the owner can listen first
  }

  stop() {
    if (this.state === "closed") return;
    this.#drop(1000, "");
    this.#end({ code: 1000, reason: "closed by the application" });
  }

  /** The connection is of no use: lose it and come back. */
  cut(reason) {
    this.#lost(CUT, reason);
  }

  /** It works, and something is heard at least every so many seconds. */
  established(silence = Infinity) {
    this.#silence = silence;
    this.#since = performance.now();
    this.#expect(silence);
    this.#set("connected");
  }

  /** The server says why it is about to close. */
  farewell(cause) {
    this.#cause = cause;
    this.#expect((this.#silence = FAREWELL));
  }

  send(text) {
    this.#socket?.send(text);
  }

  async #open(turn) {
    if (turn === this.#turn) this.#set("connecting");
    if (turn !== this.#turn) return;
    let target;
    try {
      target = await this.#owner.target();
    } catch (error) {
      if (turn === this.#turn) this.#lost(error.close ?? CUT, error.message);
      return;
    }
    if (turn !== this.#turn) return;
    try {
      this.#attach(new this.#WebSocket(...target));
    } catch {
      this.#lost(4000, "an address or a token that no WebSocket takes"); // the error quotes them
    }
  }

  #attach(socket) {
    this.#socket = socket;
    socket.onopen = () => this.#owner.opened?.();
    socket.onmessage = ({ data }) => this.#received(data);
    socket.onclose = ({ code, reason }) => this.#lost(code, reason);
    socket.onerror = () => this.#after(NO_CLOSE, () => this.#lost(1006, "")); // a close knows more
  }

  #received(data) {
    if (this.state === "connected") this.#expect(this.#silence);
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return this.cut("what came was not JSON");
    }
    this.#owner.received(frame);
  }

  #lost(closeCode, closeReason) {
    const {
      code,
      reason,
      reconnect_after: advised = 0,
    } = this.#cause ?? { code: closeCode, reason: closeReason };
    if (performance.now() - this.#since >= STABLE * 1000) this.#tries = 0;
    this.#drop(CUT, "");
    if (isFinal(code) && !this.#owner.pardons?.({ code, reason }))
      return this.#end({ code, reason });
    const atOnce = within(code, 4200) && this.#tries === 0;
    const delay = atOnce ? advised : Math.max(advised, this.#owner.backoff(this.#tries));
    this.#tries += 1;
    this.#notBefore = performance.now() + advised * 1000;
    this.#after(delay, () => this.start());
    this.#set("offline", { code, reason, delay });
  }

  #end(cause) {
    this.#tries = 0;
    this.#listen("removeEventListener");
    this.#set("closed", cause);
  }

  #drop(code, reason) {
    clearTimeout(this.#timer);
    this.#turn = null;
    this.#since = NaN;
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null; // it may take its time to close
    socket.onerror = null;
    socket.close(code, reason);
  }

  #set(state, details) {
    this.state = state;
    this.#owner.changed({ state, ...details });
  }

  #expect(seconds) {
    this.#after(seconds, () => this.cut(`nothing heard for ${seconds} s`));
  }

  #after(seconds, action) {
    clearTimeout(this.#timer);
    if (seconds < LONGEST) this.#timer = setTimeout(action, seconds * 1000);
  }

  #listen(change) {
    for (const type of ["online", "offline"]) globalThis[change]?.(type, this.#wake);
    globalThis.document?.[change]("visibilitychange", this.#wake);
  }

  /** The network or the page came back, or went away. */
  #wake = ({ type }) => {
    if (type === "visibilitychange" && document.visibilityState === "hidden") return;
    if (this.state === "connected" && this.#owner.probe) {
      this.#expect(PROBE);
      this.#owner.probe();
    } else if (this.state === "offline" && type !== "offline") {
      const wait = Math.max(0, this.#notBefore - performance.now()) / 1000;
      this.#after(wait, () => this.start());
    }
  };
}
