// One call: the host's words become a Request, the handler's Response becomes the host's words.

import log from "mote:function/log";
import request from "mote:function/request";
import response from "mote:function/response";

import { explain } from "./lib/console.js";
import { abandon } from "./lib/loop.js";
import { forgetUnheard, settle, unheardReasons } from "./lib/promise.js";
import { renew } from "./lib/random.js";
import { Request, Source } from "./lib/request.js";
import { Response } from "./lib/response.js";

/** Headers that belong to the connection (RFC 9110 §7.6.1) or that the node writes itself; it refuses them. */
const DOORS_OWN = new Set([
  "connection",
  "content-length",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/**
 * The exported function, for a module with `export default { fetch }`, `export default function` or
 * `export function handle`.
 */
export function serve(module) {
  const handler = handlerOf(module);
  return (body) => {
    try {
      renew();
      const reply = settle(handler(asked(body)));
      tellUnheard();
      return answer(reply);
    } catch (error) {
      forgetUnheard();
      log.log("error", explain(error));
      // The host takes a text as the reason, and shows it to the caller.
      throw error instanceof Error ? error.message || error.name : String(error);
    } finally {
      abandon();
    }
  };
}

function tellUnheard() {
  const reasons = unheardReasons();
  if (reasons === undefined) {
    return;
  }
  for (const reason of reasons) {
    log.log("warn", `a promise was rejected, and nobody asked: ${explain(reason)}`);
  }
}

function handlerOf(module) {
  const { default: standard, handle } = module;
  if (typeof standard?.fetch === "function") {
    return (request) => standard.fetch(request);
  }
  for (const handler of [standard, handle]) {
    if (typeof handler === "function") {
      return handler;
    }
  }
  throw new Error("the module exports no handler: write `export default { fetch(request) { … } }`");
}

/** The host's words about the call. */
class Incoming extends Source {
  method() {
    return request.method();
  }

  url() {
    const query = request.query();
    const target = `${request.path() || "/"}${query == null ? "" : `?${query}`}`;
    return `${originOf(request.header("host") ?? "")}${target}`;
  }

  headers() {
    return request.headers();
  }
}

const HOST = /^(?:[\w.-]+|\[[0-9a-fA-F:.]+\])(?::[0-5]?\d{1,4})?$/;
/** The last host and what was made of it: most calls of one memory name the same. */
let host = "";
let origin = "http://localhost";

function originOf(name) {
  if (name !== host) {
    host = name;
    origin = `http://${HOST.test(name) ? name : "localhost"}`;
  }
  return origin;
}

const incoming = new Incoming();

function asked(body) {
  return new Request(incoming, body.length > 0 ? body : null);
}

function answer(reply) {
  if (!(reply instanceof Response)) {
    throw new TypeError(`the handler answered ${reply === null ? "null" : typeof reply}, not a Response`);
  }
  if (reply.status !== 200) {
    response.setStatus(reply.status);
  }
  reply.eachHeader((name, value) => {
    if (!DOORS_OWN.has(name)) {
      response.setHeader(name, value);
    }
  });
  return reply.take();
}
