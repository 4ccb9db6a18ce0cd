// Builds hello.js as a wasi:http component with @bytecodealliance/componentize-js.
//
//   node build.mjs TOOLS OUT
//
// TOOLS is the folder with node_modules, OUT the component to write. The interfaces of WASI are those
// of the crate wasmtime-wasi-http. This componentize-js exports the handler of WASI 0.2.10 and no
// other, so they are given that number; hosts of later ones run it.
import { execFileSync } from "node:child_process";
import { cp, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const VERSION = "0.2.10";
const WORLD = `package mote:interop;

world hello {
  include wasi:http/proxy@${VERSION};
}
`;

const [tools, out] = process.argv.slice(2).map((path) => resolve(path));
const library = join(tools, "node_modules/@bytecodealliance/componentize-js");
const manifest = JSON.parse(await readFile(join(library, "package.json"), "utf8"));
const { componentize } = await import(pathToFileURL(join(library, manifest.exports.import)));

const metadata = JSON.parse(
  execFileSync("cargo", ["metadata", "--locked", "--format-version", "1"], { maxBuffer: 1 << 30 }),
);
const host = metadata.packages.find(({ name }) => name === "wasmtime-wasi-http");
const interfaces = join(dirname(host.manifest_path), "wit/deps");

const wit = await mkdtemp(join(tmpdir(), "wasi-http-"));
try {
  await cp(interfaces, join(wit, "deps"), { recursive: true });
  for (const name of await readdir(join(wit, "deps"))) {
    const path = join(wit, "deps", name);
    await writeFile(path, (await readFile(path, "utf8")).replaceAll(/0\.2\.1[1-9]/g, VERSION));
  }
  await writeFile(join(wit, "world.wit"), WORLD);
  const { component } = await componentize({
    sourcePath: join(dirname(fileURLToPath(import.meta.url)), "hello.js"),
    witPath: wit,
    worldName: "hello",
  });
  // Renamed into place: a build that was cut off leaves nothing that looks built.
  await writeFile(`${out}.part`, component);
  await rename(`${out}.part`, out);
} finally {
  await rm(wit, { recursive: true });
}
