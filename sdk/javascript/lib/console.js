// The console writes to the function's log, each method with its level.

import log from "mote:function/log";

const DEPTH_MAX = 4;
const ITEMS_MAX = 100;

export const console = {
  trace: (...things) => write("trace", things),
  debug: (...things) => write("debug", things),
  log: (...things) => write("info", things),
  info: (...things) => write("info", things),
  warn: (...things) => write("warn", things),
  error: (...things) => write("error", things),
  dir: (thing) => write("info", [thing]),
  assert: (holds, ...things) => holds || write("error", ["assertion failed:", ...things]),
};

/** Writes things to the log, with spaces between them. */
export function write(level, things) {
  let line = "";
  for (let at = 0; at < things.length; at += 1) {
    const thing = things[at];
    line += `${at === 0 ? "" : " "}${typeof thing === "string" ? thing : show(thing)}`;
  }
  log.log(level, line.toWellFormed());
}

/** An error with the place it is from. */
export function explain(error) {
  if (!(error instanceof Error)) {
    return `thrown: ${show(error)}`;
  }
  const cause = error.cause === undefined ? "" : `\ncaused by ${explain(error.cause)}`;
  return `${error.name}: ${error.message}\n${error.stack ?? ""}${cause}`.trimEnd();
}

/** A value for people, in one line, and bounded. */
export function show(value, depth = 0, seen = []) {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value);
    case "bigint":
      return `${value}n`;
    case "symbol":
      return String(value);
    case "function":
      return `[function ${value.name || "without a name"}]`;
    case "object":
      return value === null ? "null" : showObject(value, depth, seen);
    default:
      return Object.is(value, -0) ? "-0" : String(value);
  }
}

function showObject(value, depth, seen) {
  if (value instanceof Error) {
    return explain(value);
  }
  if (value instanceof Date || value instanceof RegExp) {
    return String(value instanceof Date && !Number.isNaN(value.valueOf()) ? value.toISOString() : value);
  }
  if (seen.includes(value)) {
    return "[circular]";
  }
  if (depth >= DEPTH_MAX) {
    return Array.isArray(value) ? "[…]" : "{…}";
  }
  const inner = (thing) => show(thing, depth + 1, [...seen, value]);
  if (Array.isArray(value) || ArrayBuffer.isView(value)) {
    const name = Array.isArray(value) ? "" : `${value.constructor.name} `;
    const items = Array.from(value instanceof DataView ? [] : value).slice(0, ITEMS_MAX).map(inner);
    return `${name}[${items.join(", ")}${more(value.length, items)}]`;
  }
  const isMap = value instanceof Map;
  const pairs = isMap || value instanceof Set ? [...value] : Object.entries(value);
  const name = value.constructor === Object || value.constructor === undefined ? "" : `${value.constructor.name} `;
  const items = pairs.slice(0, ITEMS_MAX).map((item) => {
    if (value instanceof Set) {
      return inner(item);
    }
    return isMap ? `${inner(item[0])} => ${inner(item[1])}` : `${item[0]}: ${inner(item[1])}`;
  });
  return items.length === 0 ? `${name}{}` : `${name}{ ${items.join(", ")}${more(pairs.length, items)} }`;
}

function more(count, items) {
  return count > items.length ? `, … ${count - items.length} more` : "";
}
