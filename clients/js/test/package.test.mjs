// What is shipped: its size, that it is what the source makes, and its parts.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

const LIMIT = 8000; // bytes, gzip -9
const file = (name) => readFileSync(new URL(`../${name}`, import.meta.url));
const { exports, files, dependencies, version } = JSON.parse(file("package.json"));

test("the file for pages is small", () => {
  const size = gzipSync(file("hubbub.js"), { level: 9 }).length;
  assert(size < LIMIT, `${size} bytes`);
});

test("it needs nothing else", () => {
  assert.equal(dependencies, undefined);
  assert.doesNotMatch(String(file("hubbub.js")), /\b(import|require)\b\s*[("{*]/);
});

test("it has what the source has, and its version", async () => {
  const [built, source] = await Promise.all([import("../hubbub.js"), import("../src/index.js")]);
  assert.deepEqual(Object.keys(built), Object.keys(source));
  assert.match(
    String(file("hubbub.js")),
    new RegExp(`^// hubbub ${version.replaceAll(".", "\\.")},`),
  );
});

test("every file that package.json names is there", () => {
  const named = [...files, ...Object.values(exports["."])];
  for (const name of named) {
    assert(existsSync(fileURLToPath(new URL(`../${name}`, import.meta.url))), name);
  }
});
