// A call from the host's words to the host's words.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Promise } from "../lib/promise.js";
import { Response } from "../lib/response.js";
import { setTimeout } from "../lib/timers.js";
import { CallError, KeyValueError, call, config, kv, publish, spawn } from "../mote.js";
import { serve } from "../serve.js";

const { host } = globalThis;

/** What the engine throws for what a host function gives as its error. */
function refusing(payload) {
  return () => {
    throw Object.assign(new Error("[object Object] (see error.payload)"), { payload });
  };
}

/** Calls a handler; gives what the host was told, and what it answered or why not. */
function calling(handler, { method = "GET", path = "", query = null, headers = [], body = "" } = {}) {
  const told = [];
  Object.assign(host["mote:function/request"], {
    method: () => method,
    path: () => path,
    query: () => query,
    header: (name) => headers.find((pair) => pair[0] === name)?.[1] ?? null,
    headers: () => headers,
    id: () => "1",
  });
  Object.assign(host["mote:function/response"], {
    setStatus: (status) => told.push(status),
    setHeader: (name, value) => told.push(`${name}: ${value}`),
    publish: () => told.push("publish"),
  });
  host["mote:function/log"].log = (level, message) => told.push(`${level}: ${message.split("\n")[0]}`);
  try {
    const bytes = serve(typeof handler === "function" ? { handle: handler } : handler)(Buffer.from(body));
    return { told, body: Buffer.from(bytes).toString() };
  } catch (reason) {
    return { told, reason };
  }
}

test("a handler is told the request, and its response is told to the host", () => {
  const { told, body } = calling(
    {
      default: {
        tail: "!",
        fetch(request) {
          return request.text().then((text) => {
            const seen = `${request.method} ${request.url} ${request.headers.get("x-many")} ${text}${this.tail}`;
            const headers = [["x-a", "1"], ["content-length", "3"], ["x-a", "2"]];
            return new Response(seen, { status: 201, headers });
          });
        },
      },
    },
    {
      method: "PUT",
      path: "/a%20b",
      query: "x=1",
      headers: [["host", "example.org"], ["x-many", "one"], ["x-many", "two"]],
      body: "body",
    },
  );
  assert.equal(body, "PUT http://example.org/a%20b?x=1 one, two body!");
  assert.deepEqual(told, [201, "x-a: 1", "x-a: 2", "content-type: text/plain;charset=UTF-8"]);
});

test("the path of the function itself is a slash, whatever the host is called", () => {
  assert.equal(calling((request) => new Response(request.url)).body, "http://localhost/");
  const odd = { headers: [["host", "a b"]], path: "//x" };
  assert.equal(calling({ default: (request) => new Response(request.url) }, odd).body, "http://localhost//x");
});

test("a call without a body has an empty one", () => {
  const { body } = calling((request) => request.text().then((text) => Response.json([text, request.body])));
  assert.equal(body, `["",null]`);
});

test("what fails has a reason and a line in the log", () => {
  const failing = (act) => calling(act).reason;
  assert.equal(failing(() => { throw new Error("no such luck") }), "no such luck");
  assert.equal(failing(() => Promise.reject(new TypeError("later"))), "later");
  assert.equal(failing(() => { throw "a text" }), "a text");
  assert.equal(failing(() => "a text"), "the handler answered string, not a Response");
  assert.match(failing(() => new Promise(() => {})), /never settled/);
  assert.throws(() => serve({}), /exports no handler/);
  const { told } = calling(() => { throw new Error("no such luck") });
  assert.deepEqual(told, ["error: Error: no such luck"]);
});

test("a rejection that nobody hears is told", () => {
  const { told, body } = calling(() => (Promise.reject(new Error("lost")), new Response("fine")));
  assert.equal(body, "fine");
  assert.equal(told[0], "warn: a promise was rejected, and nobody asked: Error: lost");
});

test("siblings are called at the same time", () => {
  const did = [];
  host["mote:function/call"].start = (asked) => {
    did.push(`start ${asked.function} ${asked.method} ${asked.target} ${Buffer.from(asked.body)}`);
    const headers = [...asked.headers, ["x-from", asked.function]];
    return {
      wait: () => (did.push("wait"), { status: 200, headers, body: asked.body }),
      [Symbol.dispose]: () => did.push("drop"),
    };
  };
  const { body } = calling(() => {
    call("lost");
    const ask = (name) => call(name, "/x?y", { method: "POST", body: name });
    return Promise.all([ask("one"), ask("two")]).then(([one, two]) =>
      Promise.all([one.text(), two.text(), one.headers.get("x-from")]).then((all) => new Response(all.join())),
    );
  });
  assert.equal(body, "one,two,one");
  assert.deepEqual(did.slice(0, 3), ["start lost GET  ", "start one POST /x?y one", "start two POST /x?y two"]);
  assert.equal(did.filter((what) => what === "drop").length, 3, "the one that nobody waited for is dropped, too");
});

test("why a sibling did not answer is known", () => {
  const kind = (act) => calling(() => act().catch((error) => new Response(`${error instanceof CallError} ${error.kind}`)));
  host["mote:function/call"].start = refusing({ kind: "not-found", message: "no function `x`" });
  assert.equal(kind(() => call("x")).body, "true not-found");
  const wait = refusing({ kind: "timeout", message: "late" });
  host["mote:function/call"].start = () => ({ wait, [Symbol.dispose]() {} });
  assert.equal(kind(() => call("x")).body, "true timeout");
  host["mote:function/call"].spawn = refusing({ kind: "overloaded", message: "full" });
  assert.throws(() => spawn("x"), CallError);
  host["mote:function/call"].spawn = () => "id";
  assert.equal(spawn("x"), "id");
});

/** A store of the host. */
function store() {
  const values = new Map();
  const bucket = {
    get: (key) => values.get(key) ?? null,
    set: (key, value) => void values.set(key, value),
    delete: (key) => void values.delete(key),
    exists: (key) => values.has(key),
    listKeys(cursor) {
      const keys = [...values.keys()].sort().filter((key) => cursor === null || key > cursor);
      return { keys: keys.slice(0, 2), cursor: keys.length > 2 ? keys[1] : null };
    },
  };
  host["wasi:keyvalue/store@0.2.0-draft2"].open = (name) => (name === "denied" ? refusing({ tag: "access-denied" })() : bucket);
  const atomics = host["wasi:keyvalue/atomics@0.2.0-draft2"];
  atomics.increment = (_, key, by) => {
    const sum = Number(Buffer.from(values.get(key) ?? "0")) + by;
    values.set(key, Buffer.from(String(sum)));
    return sum;
  };
  atomics.Cas.new = (_, key) => ({ key, seen: values.get(key), current: () => values.get(key) ?? null });
  atomics.swap = (cas, value) => {
    if (values.get(cas.key) !== cas.seen) {
      refusing({ tag: "cas-failed", val: { [Symbol.dispose]() {} } })();
    }
    values.set(cas.key, value);
  };
}

test("values are kept", () => {
  store();
  const bucket = kv.open("test");
  assert.equal(bucket.get("a"), null);
  assert.equal(bucket.getText("a"), null);
  assert.equal(bucket.getJson("a"), null);
  bucket.set("a", "grüße");
  bucket.set("b", new Uint8Array([1, 2]));
  bucket.setJson("c", { d: [1] });
  assert.equal(bucket.getText("a"), "grüße");
  assert.deepEqual([...bucket.get("b")], [1, 2]);
  assert.deepEqual(bucket.getJson("c"), { d: [1] });
  assert.deepEqual([...bucket.keys()], ["a", "b", "c"]);
  assert.deepEqual([bucket.increment("n"), bucket.increment("n", -3)], [1, -2]);
  assert.throws(() => bucket.increment("n", 0.5), TypeError);
  bucket.delete("a");
  assert.equal(bucket.has("a"), false);
});

test("an update sees what was there", () => {
  store();
  const bucket = kv.open("test");
  let attempts = 0;
  const text = (bytes) => (bytes ? Buffer.from(bytes).toString() : "none");
  bucket.update("k", (old) => {
    attempts += 1;
    if (attempts === 1) {
      bucket.set("k", "meanwhile");
    }
    return `${text(old)}!`;
  });
  assert.equal(bucket.getText("k"), "meanwhile!");
  assert.equal(attempts, 2);
  const always = () => (bucket.set("k", String((attempts += 1))), "x");
  assert.throws(() => bucket.update("k", always), (error) => error instanceof KeyValueError && error.kind === "changed");
});

test("a refusal says what to write into the manifest", () => {
  store();
  assert.throws(() => kv.open("denied").get("x"), /allow.keyvalue = true/);
});

test("configuration, publishing and timers", () => {
  const settings = host["wasi:config/store@0.2.0-rc.1"];
  settings.get = (name) => (name === "ROOM" ? "kitchen" : null);
  settings.getAll = () => [["ROOM", "kitchen"]];
  assert.equal(config.get("ROOM"), "kitchen");
  assert.equal(config.get("NONE"), undefined);
  assert.deepEqual(config.all(), { ROOM: "kitchen" });
  let now = 0;
  const clock = host["wasi:clocks/monotonic-clock@0.2.12"];
  clock.now = () => now;
  clock.subscribeDuration = (time) => ({ block: () => (now += time) });
  const { told, body } = calling(() => {
    publish();
    const order = [];
    setTimeout(() => order.push("never"), 100);
    setTimeout((word) => order.push(word), 20, "second");
    setTimeout(() => order.push("first"), 10);
    return new Promise((resolve) => setTimeout(resolve, 30)).then(() => new Response(order.join()));
  });
  assert.equal(body, "first,second");
  assert.equal(told[0], "publish");
  assert.equal(now, 30e6);
});
