// The last two minutes of some figures, and their curves. Pure: no page, no client.

export const SPAN = 120; // seconds
const BREAK = 3; // seconds without a figure, after which a curve begins anew

export class Series {
  #points = []; // {ts, …}, ascending

  get last() {
    return this.#points.at(-1);
  }

  /** Of figures that came twice or late, the first one counts. */
  add(point) {
    if (this.last && point.ts <= this.last.ts) return;
    this.#points.push(point);
    while (this.#points[0].ts < point.ts - SPAN) this.#points.shift();
  }

  /** Runs of [x, y], x from 0 to 1 over the span up to `now`, y from 0 to 1 of `top`. */
  runs(name, now, top) {
    const runs = [];
    let before = -Infinity;
    for (const point of this.#points) {
      const x = 1 - (now - point.ts) / SPAN;
      if (point.ts - before > BREAK) runs.push([]);
      before = point.ts;
      if (x >= 0) runs.at(-1).push([x, Math.min(1, point[name] / top)]);
    }
    return runs.filter((run) => run.length > 0);
  }

  /** The top of the scale: 1, 2 or 5 times a power of ten, not under `least`. */
  top(name, least) {
    const most = Math.max(least, ...this.#points.map((point) => point[name]));
    const power = 10 ** Math.floor(Math.log10(most) + 1e-9);
    const step = [1, 2, 5, 10].find((step) => step * power >= most * (1 - 1e-9));
    return step * power;
  }
}

/** The outline of one run in a picture of that size, and the area under it. */
export function path(run, width, height) {
  const line = run.map(([x, y]) => `${(x * width).toFixed(1)} ${((1 - y) * height).toFixed(1)}`);
  const [from, to] = [run[0][0] * width, run.at(-1)[0] * width];
  return {
    curve: `M${line.join("L")}`,
    area: `M${from.toFixed(1)} ${height}L${line.join("L")}L${to.toFixed(1)} ${height}Z`,
  };
}
