// A hubbub server as a process, tokens for it, and a wire to it that can be cut.

import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const PYTHON = process.env.HUBBUB_PYTHON ?? join(ROOT, ".venv/bin/python");
export const SECRET = "a-secret-of-more-than-thirty-two-bytes";

/** Why tests with a server are left out; false where there is one. */
export const noServer =
  !existsSync(PYTHON) && "no server: HUBBUB_PYTHON names the Python that has it";

/** `hubbub serve` on a free port, until `t` ends. `settings` are variables without HUBBUB_;
 *  `file` is its hubbub.toml. */
export async function serve(t, settings = {}, file = "") {
  const folder = mkdtempSync(join(tmpdir(), "hubbub-js-"));
  writeFileSync(join(folder, "hubbub.toml"), file);
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("HUBBUB_"));
  const own = Object.entries(settings).map(([name, value]) => [`HUBBUB_${name}`, String(value)]);
  const server = spawn(PYTHON, ["-m", "entrypoints.cli", "serve", "--port", "0"], {
    cwd: folder,
    env: { ...Object.fromEntries([...inherited, ...own]), PYTHONPATH: ROOT },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = once(server, "exit");
  const stop = async (signal = "SIGTERM") => {
    if (server.exitCode === null && server.signalCode === null) server.kill(signal);
    await ended;
  };
  t.after(async () => {
    await stop("SIGKILL");
    rmSync(folder, { recursive: true });
  });
  const said = [];
  for await (const line of createInterface({ input: server.stderr })) {
    said.push(line);
    const [, port] = line.match(/running on http:\/\/127\.0\.0\.1:(\d+)/) ?? [];
    if (!port) continue;
    const freeze = () => server.kill("SIGSTOP");
    return { port: Number(port), url: `ws://127.0.0.1:${port}`, stop, freeze };
  }
  throw new Error(`the server ended: ${said.join("\n")}`);
}

/** One for all tests of a suite, to be called in it. */
export function serveAll(settings, file) {
  const server = {};
  const cleanups = [];
  before(async () => {
    Object.assign(
      server,
      await serve({ after: (cleanup) => cleanups.push(cleanup) }, settings, file),
    );
  });
  after(() => Promise.all(cleanups.map((cleanup) => cleanup())));
  return server;
}

/** A port that leads to another one, and can be cut. */
export async function wire(t, target) {
  const pairs = new Set();
  const own = { target, cuts: 0 };
  const listener = createServer((near) => {
    const far = connect(own.target, "127.0.0.1");
    const pair = [near, far];
    pairs.add(pair);
    for (const [one, other] of [pair, [far, near]]) {
      one.on("error", () => other.destroy()); // a cut is what this is for
      one.on("close", () => {
        other.destroy();
        pairs.delete(pair);
      });
      one.pipe(other);
    }
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  own.url = `ws://127.0.0.1:${listener.address().port}`;
  own.mute = () => {
    for (const [, far] of pairs) far.unpipe().resume();
  };
  own.cut = () => {
    own.cuts += 1;
    for (const end of [...pairs].flat()) {
      // Node keeps a handle of a socket that is reset before it is connected.
      if (end.readyState === "open") end.resetAndDestroy();
      else end.destroy();
    }
  };
  t.after(() => {
    own.cut();
    listener.close();
  });
  return own;
}

const part = (value) => Buffer.from(value).toString("base64url");

/** A token that a server with SECRET accepts for so many seconds. */
export function token(user, seconds = 600, claims = {}) {
  const exp = Date.now() / 1000 + seconds;
  const head = part(JSON.stringify({ alg: "HS256", typ: "JWT" }));
  const signed = `${head}.${part(JSON.stringify({ sub: user, exp, ...claims }))}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

export const withTokens = { AUTH__MODE: "jwt", AUTH__HMAC_SECRET: SECRET };
export const unhurried = { LIMITS__MESSAGES_PER_SECOND: 0, LIMITS__COMMANDS_PER_SECOND: 0 };
