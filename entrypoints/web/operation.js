// A change of a whole text, as a list from its beginning to its end: a number keeps so many
// characters, a negative one takes them out, a string puts itself in. Characters are UTF-16 units,
// as in a text field. Pure: no page, no client.

const keeps = (part) => typeof part === "number" && part > 0;
const drops = (part) => typeof part === "number" && part < 0;
const puts = (part) => typeof part === "string";
const length = (part) => (puts(part) ? part.length : Math.abs(part));

/** Add a part; equal kinds become one, and what is put in stands before what is taken out. */
function add(change, part) {
  if (!length(part)) return;
  const last = change.at(-1);
  if (puts(part) && drops(last)) {
    change.pop();
    add(change, part);
    change.push(last);
  } else if ((puts(part) && puts(last)) || (keeps(part) && keeps(last)) || (drops(part) && drops(last))) {
    change[change.length - 1] = last + part;
  } else {
    change.push(part);
  }
}

/** Reads a change in pieces as long as somebody else's. */
class Reader {
  #parts;
  #at = 0;
  #rest;

  constructor(change) {
    this.#parts = change;
    this.#rest = change[0];
  }

  get part() {
    return this.#rest;
  }

  get done() {
    return this.#at >= this.#parts.length;
  }

  /** The next `count` characters of the present part. */
  take(count = length(this.#rest)) {
    const part = this.#rest;
    if (count >= length(part)) {
      this.#rest = this.#parts[++this.#at];
      return part;
    }
    this.#rest = puts(part) ? part.slice(count) : part - Math.sign(part) * count;
    return puts(part) ? part.slice(0, count) : Math.sign(part) * count;
  }
}

const common = (a, b) => Math.min(length(a.part), length(b.part));

/** Whether this is a change of a text of `size` characters. */
export function fits(change, size) {
  if (!Array.isArray(change)) return false;
  const sound = (part) => (puts(part) ? part !== "" : Number.isSafeInteger(part) && part !== 0);
  if (!change.every(sound)) return false;
  return change.reduce((sum, part) => sum + (puts(part) ? 0 : length(part)), 0) === size;
}

export function apply(text, change) {
  let at = 0;
  let result = "";
  for (const part of change) {
    if (puts(part)) result += part;
    else if (keeps(part)) result += text.slice(at, (at += part));
    else at -= part;
  }
  return result;
}

/** One change that does `first`, then `second`. */
export function compose(first, second) {
  const [a, b, result] = [new Reader(first), new Reader(second), []];
  while (!a.done || !b.done) {
    if (!a.done && drops(a.part)) add(result, a.take());
    else if (!b.done && puts(b.part)) add(result, b.take());
    else {
      const count = common(a, b);
      const [before, after] = [a.take(count), b.take(count)];
      if (keeps(after)) add(result, before);
      else if (keeps(before)) add(result, after); // what was put in and is taken out leaves nothing
    }
  }
  return result;
}

/** Two changes of one text: [`first` made to follow `second`, `second` made to follow `first`], and
 *  either way gives the same text. Where both put something in, that of `first` stands first. */
export function transform(first, second) {
  const [a, b, after, before] = [new Reader(first), new Reader(second), [], []];
  while (!a.done || !b.done) {
    if (!a.done && puts(a.part)) {
      add(before, a.part.length);
      add(after, a.take());
    } else if (!b.done && puts(b.part)) {
      add(after, b.part.length);
      add(before, b.take());
    } else {
      const count = common(a, b);
      const [mine, other] = [a.take(count), b.take(count)];
      if (keeps(other)) add(after, mine);
      if (keeps(mine)) add(before, other);
    }
  }
  return [after, before];
}

/** Where a place in the text is after the change. What is put in right there stays behind it. */
export function moved(place, change) {
  let at = 0;
  let result = place;
  for (const part of change) {
    if (at >= place) break;
    if (puts(part)) result += part.length;
    else if (drops(part)) result += Math.max(part, at - place);
    if (!puts(part)) at += length(part);
  }
  return result;
}

/** A change that makes the one text of the other, in one place. */
export function difference(before, after) {
  const most = Math.min(before.length, after.length);
  let start = 0;
  while (start < most && before[start] === after[start]) start += 1;
  if (splits(before, start) || splits(after, start)) start -= 1;
  let end = 0;
  while (end < most - start && before.at(-1 - end) === after.at(-1 - end)) end += 1;
  if (end && (splits(before, before.length - end) || splits(after, after.length - end))) end -= 1;
  const change = [];
  add(change, start);
  add(change, after.slice(start, after.length - end));
  add(change, start + end - before.length);
  add(change, end);
  return change;
}

/** Whether a character of two units would be cut here: the half of one cannot be sent. */
function splits(text, at) {
  const unit = text.charCodeAt(at);
  const previous = text.charCodeAt(at - 1);
  return previous >= 0xd800 && previous < 0xdc00 && unit >= 0xdc00 && unit < 0xe000;
}
