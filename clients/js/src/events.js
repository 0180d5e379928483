// Listeners, the one class of errors, and waiting.

/** `code` is a word of the protocol, or the client's own: `offline`, `closed`. `retry`: the same
 *  may succeed later. */
export class HubbubError extends Error {
  name = "HubbubError";

  constructor(code, message = code, retry = false) {
    super(message);
    this.code = code;
    this.retry = retry;
  }
}

export class Emitter {
  #listeners = {};

  /** Returns the function that takes the listener away again. */
  on(type, listener) {
    const listeners = (this.#listeners[type] ??= new Set());
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  /** Returns whether anybody listens. */
  _emit(type, event) {
    const listeners = [...(this.#listeners[type] ?? [])];
    for (const listener of listeners) call(listener, event);
    return listeners.length > 0;
  }
}

/** A fault in the application's code must show, and must not break the client's own. */
export function call(listener, event) {
  try {
    listener(event);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

/** Node need not live on for it: what has to is the connection, or the wait for the next. */
export function after(seconds, action) {
  const timer = setTimeout(action, seconds * 1000);
  timer.unref?.();
  return timer;
}
