// Makes a component of a bundle, with the imports that the bundle uses:
// `node componentize.mjs <componentize-qjs/index.js> <bundle.js> <folder of the world> <component.wasm>`.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [engine, bundle, folder, component] = process.argv.slice(2);
const { componentize } = (await import(pathToFileURL(engine))).default;

// The bundler leaves `import "x"` where a name of x is imported and not used.
const BARE = /^import "(?:mote|wasi):[^"]*";$/gm;
const NAMED = /^import [^"]+ from "((?:mote|wasi):[^"@]*)[^"]*";$/gm;
const source = readFileSync(bundle, "utf8").replace(BARE, "");
const used = new Set([...source.matchAll(NAMED)].map((match) => match[1]));

const path = join(folder, "javascript.wit");
const world = readFileSync(path, "utf8").replace(/^ *import ([^@]*)@.*\n/gm, (line, name) => (used.has(name) ? line : ""));
writeFileSync(path, world);

const made = await componentize({ witPath: folder, world: "javascript", jsSource: source, jsPath: bundle, sync: true });
writeFileSync(component, made.component);
