// Serves a JavaScript handler over HTTP/1.1 on $PORT, or on the Unix socket $MOTE_SOCKET.
//
// A handler is one of:
//   module.exports = (req, res) => …        in the manner of Express and tinyFaaS
//   export const handle = async (request)   returns a string, bytes, an object (JSON), or
//   export default async (request)          { status, headers, body, publish }
//
// Started without a handler it says on the socket that is descriptor 3 that it waits, and is told there, in one
// message, which one to serve and all its variables: until then it has no code of anybody, and its sandbox is
// no app's.
//
// The process serves many calls at once. What a handler throws is its own call's failure; an exception
// that belongs to no call fails the calls that are under way and ends the process, since its state is
// unknown then. Bodies are bounded here once more; their real limit is the function's, which the node holds.

const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const { AsyncLocalStorage } = require("node:async_hooks");
const { pathToFileURL } = require("node:url");

const READY_PATH = "/.mote/ready";
const BODY_BYTES_MAX = 256 << 20;
const CONTROL = 3;
const PACKET_BYTES_MAX = 64 << 10;
const LAST_WORDS_MS = 500;

const underWay = new Set();
const current = new AsyncLocalStorage();

async function main(file) {
  process.chdir(path.dirname(file));
  const call = style(await load(file), path.basename(file));

  const server = http.createServer((req, res) => {
    if (req.url === READY_PATH) return res.end("ready");
    underWay.add(res);
    res.once("close", () => underWay.delete(res));
    current.run(res, () => serve(call, req, res));
  });
  // The node keeps connections and closes them; calls may take as long as their timeout says.
  server.keepAliveTimeout = 0;
  server.headersTimeout = 0;
  server.requestTimeout = 0;
  server.timeout = 0;
  const place = process.env.MOTE_SOCKET
    ? { path: process.env.MOTE_SOCKET }
    : { port: Number(process.env.PORT), host: process.env.HOST || "127.0.0.1" };
  server.listen(place);
}

function wait() {
  fs.writeSync(CONTROL, JSON.stringify({ kind: "waiting" }));
  const packet = Buffer.alloc(PACKET_BYTES_MAX);
  const length = fs.readSync(CONTROL, packet);
  if (length === 0) process.exit(0);
  fs.closeSync(CONTROL);
  const message = JSON.parse(packet.toString("utf8", 0, length));
  Object.assign(process.env, message.env);
  process.argv.push(...message.arguments);
}

// --- the code --------------------------------------------------------------------------------------------

async function load(file) {
  // A package.json stands for the file that it names.
  const target = path.basename(file) === "package.json" ? path.dirname(file) : file;
  if (!target.endsWith(".mjs")) {
    try {
      return require(target);
    } catch (error) {
      const isModule = error.code === "ERR_REQUIRE_ESM" || error.code === "ERR_REQUIRE_ASYNC_MODULE";
      if (!isModule) throw error;
    }
  }
  const found = target === file ? file : require.resolve(target);
  return import(pathToFileURL(found).href);
}

function style(loaded, name) {
  if (typeof loaded.handle === "function") return answering(loaded.handle);
  const found = typeof loaded === "function" ? loaded : loaded.default;
  if (typeof found !== "function") {
    throw new Error(`${name} exports neither a function nor \`handle\``);
  }
  // Two parameters take a response to write to; one returns it.
  return found.length >= 2 ? writing(found) : answering(found);
}

// --- a call ----------------------------------------------------------------------------------------------

async function serve(call, req, res) {
  try {
    const raw = await read(req);
    await call(req, res, raw);
  } catch (error) {
    fail(res, error);
  }
}

function read(req) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    let length = 0;
    req.on("data", (chunk) => {
      length += chunk.length;
      if (length > BODY_BYTES_MAX) {
        req.destroy();
        reject(new Error(`the body is longer than ${BODY_BYTES_MAX} bytes`));
      }
      chunks.push(chunk);
    });
    req.once("end", () => resolve(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)));
    req.once("error", reject);
  });
}

function fail(res, error) {
  console.error(error);
  if (res.headersSent) return res.destroy();
  const name = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  for (const header of res.getHeaderNames()) res.removeHeader(header);
  res.statusCode = 500;
  res.setHeader("content-type", "text/plain; charset=utf-8");
  res.end(`${name}\n`);
}

/** A handler that writes its response. */
function writing(handler) {
  return (req, res, raw) => {
    const url = new URL(req.url, "http://function");
    const json = /^application\/(.+\+)?json\b/i.test(req.headers["content-type"] || "");
    req.rawBody = raw;
    req.body = raw.toString();
    if (json && raw.length > 0) {
      try {
        req.body = JSON.parse(req.body);
      } catch {
        // The handler sees the text as it came, and may say what is wrong with it.
      }
    }
    req.path = url.pathname;
    req.query = Object.fromEntries(url.searchParams);
    req.get = req.header = (name) => req.headers[name.toLowerCase()];

    res.req = req;
    res.status = (code) => ((res.statusCode = code), res);
    res.get = (name) => res.getHeader(name);
    res.set = res.header = (name, value) => {
      const all = typeof name === "object" ? name : { [name]: value };
      for (const [key, one] of Object.entries(all)) res.setHeader(key, Array.isArray(one) ? one : String(one));
      return res;
    };
    res.type = (kind) => res.set("content-type", TYPES[kind.replace(/^\./, "")] || kind);
    res.json = (value) => send(res, JSON.stringify(value), TYPES.json);
    res.send = (value) => {
      const [body, kind] = encode(value);
      return send(res, body, kind);
    };
    res.sendStatus = (code) => res.status(code).send(http.STATUS_CODES[code] || String(code));
    res.publish = () => res.set("mote-publish", "true");
    return handler(req, res);
  };
}

/** A handler that returns its answer. */
function answering(handler) {
  return async (req, res, raw) => {
    const url = new URL(req.url, "http://function");
    let published = false;
    const request = {
      method: req.method,
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      queryString: url.search.slice(1),
      headers: req.headers,
      callId: req.headers["mote-call-id"],
      body: raw,
      text: () => raw.toString(),
      json: () => JSON.parse(raw.toString()),
      publish: () => void (published = true),
    };
    const result = await handler(request);
    const whole = isAnswer(result) ? result : { body: result };
    for (const [name, value] of Object.entries(whole.headers || {})) res.setHeader(name, value);
    if (published || whole.publish) res.setHeader("mote-publish", "true");
    res.statusCode = whole.status ?? 200;
    const [body, kind] = encode(whole.body);
    send(res, body, kind);
  };
}

/** An object that only has keys of an answer is one; any other is a body. */
function isAnswer(value) {
  if (value === null || typeof value !== "object" || Buffer.isBuffer(value)) return false;
  const keys = Object.keys(value);
  const known = keys.every((key) => ["status", "headers", "body", "publish"].includes(key));
  return known && (typeof value.status === "number" || "body" in value);
}

const TYPES = {
  json: "application/json",
  text: "text/plain; charset=utf-8",
  txt: "text/plain; charset=utf-8",
  html: "text/html; charset=utf-8",
  bin: "application/octet-stream",
};

function encode(value) {
  if (value === undefined || value === null) return ["", undefined];
  if (typeof value === "string") return [value, TYPES.text];
  if (value instanceof Uint8Array) return [value, TYPES.bin];
  return [JSON.stringify(value), TYPES.json];
}

function send(res, body, kind) {
  if (kind && !res.hasHeader("content-type")) res.setHeader("content-type", kind);
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  const empty = res.statusCode === 204 || res.statusCode === 304;
  if (!empty) res.setHeader("content-length", bytes.length);
  res.end(empty ? undefined : bytes);
  return res;
}

// --- what belongs to no call -----------------------------------------------------------------------------

process.on("unhandledRejection", (reason) => {
  const res = current.getStore();
  if (res && !res.writableEnded) return fail(res, reason);
  console.error("a promise was rejected and nobody handled it:", reason);
});

process.on("uncaughtException", (error) => {
  const calls = [...underWay].filter((res) => !res.writableEnded);
  if (calls.length === 0) console.error(error);
  for (const res of calls) fail(res, error);
  const gone = Promise.all([...underWay].map((res) => new Promise((resolve) => res.once("close", resolve))));
  const late = new Promise((resolve) => setTimeout(resolve, LAST_WORDS_MS));
  Promise.race([gone, late]).then(() => process.exit(1));
});

// By default a process 1 ignores this signal.
process.on("SIGTERM", () => process.exit(0));

if (process.argv.length === 2) wait();
main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});
