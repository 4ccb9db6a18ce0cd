// The module `mote`: what a function can do on a node. Its types are in mote.d.ts.

import calls from "mote:function/call";
import request from "mote:function/request";
import response from "mote:function/response";
import configuration from "wasi:config/store@0.2.0-rc.1";
import atomics from "wasi:keyvalue/atomics@0.2.0-draft2";
import store from "wasi:keyvalue/store@0.2.0-draft2";

import { write } from "./lib/console.js";
import { Headers } from "./lib/headers.js";
import { awaiting } from "./lib/loop.js";
import { Promise } from "./lib/promise.js";
import { Request } from "./lib/request.js";
import { Response } from "./lib/response.js";
import { bytesOf, decode, encode } from "./lib/text.js";

export class CallError extends Error {
  constructor(kind, message) {
    super(message);
    this.name = "CallError";
    this.kind = kind;
  }
}

export class KeyValueError extends Error {
  constructor(kind, message) {
    super(message);
    this.name = "KeyValueError";
    this.kind = kind;
  }
}

export function call(name, target = "", init = {}) {
  return Promise.try(() => {
    const pending = orThrow(() => calls.start(asked(name, target, init)));
    const { promise, resolve, reject } = Promise.withResolvers();
    const drop = () => pending[Symbol.dispose]();
    awaiting(() => {
      try {
        resolve(answered(orThrow(() => pending.wait())));
      } catch (error) {
        reject(error);
      } finally {
        drop();
      }
    }, drop);
    return promise;
  });
}

export function spawn(name, target = "", init = {}) {
  return orThrow(() => calls.spawn(asked(name, target, init)));
}

function asked(name, target, init) {
  // A request has the rules for bodies and methods already.
  const request = new Request("http://sibling/", init);
  return {
    function: String(name),
    method: request.method,
    target: String(target),
    headers: request.headers.raw(),
    body: request.take(),
  };
}

function answered({ status, headers, body }) {
  const hasBody = body.length > 0 && ![204, 205, 304].includes(status);
  return new Response(hasBody ? body : null, { status, headers });
}

/** The engine wraps what the host throws, which is a record. */
function orThrow(act) {
  try {
    return act();
  } catch (error) {
    const { kind, message } = error?.payload ?? {};
    throw kind === undefined ? error : new CallError(kind, message);
  }
}

class Bucket {
  #bucket;

  constructor(bucket) {
    this.#bucket = bucket;
  }

  get(key) {
    const value = stored(() => this.#bucket().get(String(key)));
    return value ?? null;
  }

  getText(key) {
    const value = this.get(key);
    return value && decode(value);
  }

  getJson(key) {
    const text = this.getText(key);
    return text === null ? null : JSON.parse(text);
  }

  set(key, value) {
    stored(() => this.#bucket().set(String(key), bytesOf(value) ?? encode(String(value))));
  }

  setJson(key, value) {
    this.set(key, JSON.stringify(value));
  }

  delete(key) {
    stored(() => this.#bucket().delete(String(key)));
  }

  has(key) {
    return stored(() => this.#bucket().exists(String(key)));
  }

  increment(key, by = 1) {
    if (!Number.isSafeInteger(by)) {
      throw new TypeError(`${by} is not a whole number`);
    }
    return Number(stored(() => atomics.increment(this.#bucket(), String(key), by)));
  }

  *keys() {
    let cursor = null;
    do {
      const page = stored(() => this.#bucket().listKeys(cursor));
      yield* page.keys;
      cursor = page.cursor ?? null;
    } while (cursor !== null);
  }

  update(key, change) {
    for (let attempt = 0; attempt < 10; attempt += 1) {
      const cas = stored(() => atomics.Cas.new(this.#bucket(), String(key)));
      const old = stored(() => cas.current());
      const value = change(old ?? null);
      try {
        atomics.swap(cas, bytesOf(value) ?? encode(String(value)));
        return;
      } catch (error) {
        const { tag, val } = error?.payload ?? {};
        if (tag !== "cas-failed") {
          throw failure(val === undefined ? error : { payload: val });
        }
        val[Symbol.dispose]();
      }
    }
    throw new KeyValueError("changed", `the key ${JSON.stringify(key)} was changed meanwhile, ten times`);
  }
}

function stored(act) {
  try {
    return act();
  } catch (error) {
    throw failure(error);
  }
}

function failure(error) {
  const { tag, val } = error?.payload ?? {};
  switch (tag) {
    case "no-such-store":
      return new KeyValueError(tag, "a bucket's name has 1 to 63 lower-case letters, digits and hyphens");
    case "access-denied":
      return new KeyValueError(
        tag,
        "key-value data is not allowed; add `allow.keyvalue = true` to the function in mote.toml",
      );
    case "other":
      return new KeyValueError(tag, val);
    default:
      return error;
  }
}

/** A bucket is opened when it is first used: before a call there is no host to ask. */
function opened(name) {
  let handle;
  return () => (handle ??= stored(() => store.open(name)));
}

class KeyValue extends Bucket {
  open(name) {
    return new Bucket(opened(String(name)));
  }
}

// Marked, so that a function that uses no values imports none.
export const kv = /* @__PURE__ */ new KeyValue(/* @__PURE__ */ opened("default"));

export const config = {
  get: (name) => configuration.get(String(name)) ?? undefined,
  all: () => Object.fromEntries(configuration.getAll()),
};

export function log(level, ...things) {
  write(level, things);
}

export function publish() {
  response.publish();
}

export function callId() {
  return request.id();
}
