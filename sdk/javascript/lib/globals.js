// What a function finds without an import. Functions that others wrote use these names, so they are what the
// standards say, as far as they go.

import { console } from "./console.js";
import { Headers } from "./headers.js";
import { enqueue } from "./loop.js";
import { Promise } from "./promise.js";
import { crypto, mathRandom } from "./random.js";
import { Request } from "./request.js";
import { Response } from "./response.js";
import { TextDecoder, TextEncoder } from "./text.js";
import { clearTimer, setInterval, setTimeout } from "./timers.js";
import { URL, URLSearchParams } from "./url.js";

Object.assign(globalThis, {
  Headers,
  Promise,
  Request,
  Response,
  TextDecoder,
  TextEncoder,
  URL,
  URLSearchParams,
  clearInterval: clearTimer,
  clearTimeout: clearTimer,
  console,
  crypto,
  queueMicrotask: enqueue,
  self: globalThis,
  setInterval,
  setTimeout,
});
Math.random = mathRandom;

// The engine's own gives a promise of the engine.
Array.fromAsync = async (items, map = (item) => item) => {
  const list = [];
  for await (const item of items) {
    list.push(await map(item, list.length));
  }
  return list;
};
