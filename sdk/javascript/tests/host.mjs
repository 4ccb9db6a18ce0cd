// Plays the host, so that the SDK can be tested under Node.js: `node --import ./tests/host.mjs --test tests/`.
// What a component imports from its host is an object of `globalThis.host` here, by the module's name. Tests put in
// it what they want to be told.

import { register } from "node:module";

globalThis.host = {
  "mote:function/call": {},
  "mote:function/log": {},
  "mote:function/request": {},
  "mote:function/response": {},
  "wasi:clocks/monotonic-clock@0.2.12": {},
  "wasi:config/store@0.2.0-rc.1": {},
  "wasi:keyvalue/atomics@0.2.0-draft2": { Cas: {} },
  "wasi:keyvalue/store@0.2.0-draft2": {},
  "wasi:random/random@0.2.12": {},
};

register(
  `data:text/javascript,${encodeURIComponent(`
    export async function resolve(name, context, next) {
      if (/^(mote|wasi):/.test(name)) {
        const source = "export default globalThis.host[" + JSON.stringify(name) + "];";
        return { url: "data:text/javascript," + encodeURIComponent(source), shortCircuit: true };
      }
      return next(name, context);
    }
  `)}`,
);

// The component's engine has these already.
Uint8Array.fromBase64 ??= (text) => new Uint8Array(Buffer.from(text, "base64"));
Uint8Array.fromHex ??= (text) => new Uint8Array(Buffer.from(text, "hex"));
Uint8Array.prototype.toBase64 ??= function () {
  return Buffer.from(this).toString("base64");
};
Uint8Array.prototype.toHex ??= function () {
  return Buffer.from(this).toString("hex");
};
