// Makes a component of a bundle, with the imports that the bundle uses:
// `node componentize.mjs <componentize-qjs/index.js> <bundle.js> <folder of the world> <component.wasm>`.
// What was made of the same before is left as it is: the engine makes other bytes every time.

import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [engine, bundle, folder, component] = process.argv.slice(2);

// The bundler leaves `import "x"` where a name of x is imported and not used.
const BARE = /^import "(?:mote|wasi):[^"]*";$/gm;
const NAMED = /^import [^"]+ from "((?:mote|wasi):[^"@]*)[^"]*";$/gm;
// How the bundler writes what an async function is without the language's own. Ours makes a third of the closures
// (Promise.run in lib/promise.js); that of another version of the bundler is left as it is, and works as well.
const ASYNC = /^var __async = \(__this, __arguments, generator\) => \{\n(?: .*\n)+\};$/m;
const RUN = "var __async = (self, given, generator) => Promise.run(self, given, generator);";
const source = readFileSync(bundle, "utf8").replace(BARE, "").replace(ASYNC, RUN);
const used = new Set([...source.matchAll(NAMED)].map((match) => match[1]));

const path = join(folder, "javascript.wit");
const world = readFileSync(path, "utf8").replace(/^ *import ([^@]*)@.*\n/gm, (line, name) => (used.has(name) ? line : ""));
writeFileSync(path, world);

const { version } = JSON.parse(readFileSync(join(engine, "../package.json"), "utf8"));
const key = createHash("sha256").update(JSON.stringify([version, world, source])).digest("hex");
const keyPath = `${component}.key`;
const isMade = existsSync(component) && existsSync(keyPath) && readFileSync(keyPath, "utf8") === key;
if (!isMade) {
  // A build that fails leaves none.
  rmSync(component, { force: true });
  const { componentize } = (await import(pathToFileURL(engine))).default;
  const made = await componentize({ witPath: folder, world: "javascript", jsSource: source, jsPath: bundle, sync: true });
  writeFileSync(component, made.component);
  writeFileSync(keyPath, key);
}
