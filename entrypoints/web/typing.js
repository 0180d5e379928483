// Who is typing: told at most every two seconds, believed for four.

const TELL = 2000;
const BELIEVE = 4000;

export class TypingList {
  #timers = new Map(); // user → timer
  #told = -Infinity;
  #changed;
  #now;

  constructor(changed, now = () => performance.now()) {
    this.#changed = changed;
    this.#now = now;
  }

  /** Whether the others should be told that we are typing. */
  due() {
    if (this.#now() - this.#told < TELL) return false;
    this.#told = this.#now();
    return true;
  }

  /** We have sent it: the next letter begins another message. */
  said() {
    this.#told = -Infinity;
  }

  typing(user) {
    clearTimeout(this.#timers.get(user));
    this.#timers.set(user, setTimeout(() => this.gone(user), BELIEVE));
    this.#changed();
  }

  gone(user) {
    if (!this.#timers.has(user)) return;
    clearTimeout(this.#timers.get(user));
    this.#timers.delete(user);
    this.#changed();
  }

  stop() {
    for (const user of [...this.#timers.keys()]) this.gone(user);
  }

  get text() {
    const names = [...this.#timers.keys()];
    if (names.length === 0) return "";
    if (names.length > 2) return `${names.length} people are typing`;
    return `${names.join(" and ")} ${names.length === 1 ? "is" : "are"} typing`;
  }
}
