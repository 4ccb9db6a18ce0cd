// The function that every language has: see the table in README.md of the folder above.

import { CallError, call, callId, config, kv, log, publish, spawn, type Handler } from "mote";

type Answer = Response | Promise<Response>;

const PATHS: Record<string, (request: Request, rest: string, url: URL) => Answer> = {
  echo,
  json,
  error: fail,
  status,
  headers,
  where,
  log: logLines,
  publish: publishIt,
  sibling,
  kv: keyValue,
  config: setting,
};

export default {
  async fetch(request) {
    const url = new URL(request.url);
    const [first = "", ...rest] = url.pathname.slice(1).split("/");
    const serve = PATHS[first];
    return serve ? await serve(request, rest.join("/"), url) : noSuch("path");
  },
} satisfies Handler;

function noSuch(what: string): Response {
  return new Response(`no such ${what}`, { status: 404 });
}

async function echo(request: Request): Promise<Response> {
  const kind = request.headers.get("content-type");
  return new Response(await request.bytes(), { headers: kind === null ? [] : [["content-type", kind]] });
}

interface Input {
  name: string;
  numbers: number[];
}

function isInput(input: any): input is Input {
  return typeof input?.name === "string" && Array.isArray(input.numbers) && input.numbers.every(Number.isInteger);
}

async function json(request: Request): Promise<Response> {
  let input: unknown;
  try {
    input = await request.json();
  } catch (error) {
    return new Response(`bad JSON: ${error}`, { status: 400 });
  }
  if (!isInput(input)) {
    return new Response("bad JSON: `name` and `numbers` are needed", { status: 400 });
  }
  const sum = input.numbers.reduce((a, b) => a + b, 0);
  return Response.json({ greeting: `hello, ${input.name}`, sum });
}

async function fail(): Promise<never> {
  throw new Error("no such luck");
}

function status(_: Request, rest: string): Response {
  return new Response(`status ${rest}`, { status: Number(rest) });
}

function headers(request: Request): Response {
  const told = ["x-test", "x-many"].map((name) => `${name}: ${request.headers.get(name) ?? "-"}\n`);
  const reply = new Response(told.join(""), { headers: { "x-reply": "yes" } });
  reply.headers.append("x-several", "one");
  reply.headers.append("x-several", "two");
  return reply;
}

function where(request: Request, _: string, url: URL): Response {
  const lines = [request.method, url.pathname, url.search.slice(1), url.searchParams.get("name")];
  return new Response(lines.map((line) => `${line || "-"}\n`).join(""));
}

function logLines(): Response {
  for (const level of ["trace", "debug", "info", "warn", "error"] as const) {
    log(level, `this is ${level}`);
  }
  return new Response("logged");
}

async function publishIt(request: Request): Promise<Response> {
  publish();
  return new Response(`published ${await request.text()}`);
}

async function sibling(request: Request, what: string): Promise<Response> {
  switch (what) {
    case "invoke": {
      const reply = await call("sibling", "/echo", {
        method: "POST",
        headers: { "content-type": "text/x-sibling" },
        body: await request.bytes(),
      });
      return new Response(`${reply.status} ${reply.headers.get("content-type")} ${await reply.text()}`);
    }
    case "both": {
      const ask = (body: string) => call("sibling", "/echo", { method: "POST", body });
      const replies = await Promise.all([ask("one"), ask("two")]);
      const texts = await Promise.all(replies.map((reply) => reply.text()));
      return new Response(texts.join(" "));
    }
    case "spawn": {
      const id = spawn("sibling", "/kv/spawned", { method: "PUT", body: await request.bytes() });
      if (!id) {
        throw new Error("the spawned call has no id");
      }
      return new Response("spawned");
    }
    case "status": {
      const reply = await call("sibling", "/error");
      return new Response(String(reply.status));
    }
    case "nobody":
      try {
        await call("nobody");
      } catch (error) {
        if (error instanceof CallError) {
          return new Response(error.kind);
        }
        throw error;
      }
      throw new Error(`nobody answered call ${callId()}`);
    default:
      return noSuch("path");
  }
}

async function keyValue(request: Request, key: string, url: URL): Promise<Response> {
  if (key === "") {
    return new Response([...kv.keys()].map((key) => `${key}\n`).join(""));
  }
  switch (request.method) {
    case "PUT":
      kv.set(key, await request.bytes());
      return new Response("set");
    case "DELETE":
      kv.delete(key);
      return new Response("deleted");
    case "POST":
      return new Response(String(kv.increment(key, Number(url.searchParams.get("by")))));
    default: {
      const value = kv.get(key);
      return value === null ? noSuch("key") : new Response(value);
    }
  }
}

function setting(_: Request, key: string): Response {
  const value = config.get(key);
  return value === undefined ? noSuch("key") : new Response(value);
}
