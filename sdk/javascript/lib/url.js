// URLs and their queries (https://url.spec.whatwg.org), as far as functions meet them: addresses with a host, and
// whatever else as `scheme:rest`. Hosts are ASCII.

import { decode } from "./text.js";

const PORTS = { "http:": "80", "https:": "443", "ws:": "80", "wss:": "443", "coap:": "5683", "coaps:": "5684" };
/** An address that is normal as it stands: host, port, path, query. */
const PLAIN = /^http:\/\/([a-z0-9.-]+)(?::([1-9]\d{0,4}))?(\/[!$&-;=@-Z_a-z~%]*)(?:\?([!$-&(-;=?-~]*))?$/;
const DOTS = /\/(?:\.|%2[eE])/;
/** Looking for a text is much faster than an expression. */
const hasDots = (path) => (path.includes("/.") || path.includes("/%")) && DOTS.test(path);
const SCHEME = /^([a-zA-Z][a-zA-Z0-9+.-]*:)(.*)$/s;
const AUTHORITY = /^(?:([^@/?#]*)@)?(\[[0-9a-fA-F:.]+\]|[^:/?#@\s]*)(?::(\d*))?$/;

export class URL {
  #protocol;
  #username = "";
  #password = "";
  #hostname = "";
  #port = "";
  #pathname = "";
  /** Without their marks, `undefined` when there is none. */
  #query;
  #hash;
  /** Made when somebody asks for it. */
  #params;

  constructor(address, base) {
    const text = String(address).trim();
    if (this.#readPlain(text)) {
      return;
    }
    const own = SCHEME.exec(text);
    if (own) {
      this.#protocol = own[1].toLowerCase();
      this.#read(own[2]);
    } else if (base !== undefined) {
      this.#resolve(text, new URL(base));
    } else {
      throw new TypeError(`${JSON.stringify(text)} is not a URL`);
    }
  }

  /** Most addresses are normal already, and then nothing has to be looked at twice. */
  #readPlain(text) {
    const plain = PLAIN.exec(text);
    if (plain === null || plain[2] > 65535 || hasDots(plain[3])) {
      return false;
    }
    this.#protocol = "http:";
    this.#hostname = plain[1];
    this.#port = plain[2] === undefined || plain[2] === "80" ? "" : plain[2];
    this.#pathname = plain[3];
    this.#query = plain[4];
    return true;
  }

  static canParse(address, base) {
    return URL.parse(address, base) !== null;
  }

  static parse(address, base) {
    try {
      return new URL(address, base);
    } catch {
      return null;
    }
  }

  #read(rest) {
    if (!rest.startsWith("//")) {
      if (this.#protocol in PORTS) {
        throw new TypeError(`${this.#protocol}${rest} is not a URL: it has no host`);
      }
      this.#readTail(rest, (path) => escaped(path, OPAQUE));
      return;
    }
    const end = rest.slice(2).search(/[/?#\\]/);
    const authority = end < 0 ? rest.slice(2) : rest.slice(2, 2 + end);
    this.#readAuthority(authority);
    this.#readTail(end < 0 ? "" : rest.slice(2 + end), (path) => normal(path));
  }

  #readAuthority(authority) {
    const parts = AUTHORITY.exec(authority);
    if (!parts || parts[2] === "" || /[^\x21-\x7e]/.test(parts[2]) || Number(parts[3] ?? 0) > 65535) {
      throw new TypeError(`${JSON.stringify(authority)} is not a host`);
    }
    const [user, ...password] = (parts[1] ?? "").split(":");
    this.#username = escaped(user, USER);
    this.#password = escaped(password.join(":"), USER);
    this.#hostname = parts[2].toLowerCase();
    this.port = parts[3] ?? "";
  }

  #readTail(tail, path) {
    const [, name, query, hash] = /^([^?#]*)(?:\?([^#]*))?(?:#(.*))?$/s.exec(tail);
    this.#pathname = path(name);
    this.#query = query === undefined ? undefined : escaped(query, QUERY);
    this.#hash = hash === undefined ? undefined : escaped(hash, HASH);
  }

  #resolve(text, base) {
    this.#protocol = base.protocol;
    if (text.startsWith("//")) {
      this.#read(text);
      return;
    }
    this.#username = base.username;
    this.#password = base.password;
    this.#hostname = base.hostname;
    this.#port = base.port;
    const folder = base.pathname.slice(0, base.pathname.lastIndexOf("/") + 1);
    this.#readTail(text, (path) => {
      if (path.startsWith("/")) {
        return normal(path);
      }
      return path === "" ? base.pathname : normal(folder + path);
    });
    if (/^(#|$)/.test(text)) {
      this.#query = base.#query;
    }
  }

  get protocol() {
    return this.#protocol;
  }
  set protocol(protocol) {
    this.#protocol = `${String(protocol).toLowerCase().replace(/:$/, "")}:`;
    this.port = this.#port;
  }

  get username() {
    return this.#username;
  }
  set username(username) {
    this.#username = escaped(String(username), USER);
  }

  get password() {
    return this.#password;
  }
  set password(password) {
    this.#password = escaped(String(password), USER);
  }

  get hostname() {
    return this.#hostname;
  }
  set hostname(hostname) {
    this.#hostname = String(hostname).toLowerCase();
  }

  get port() {
    return this.#port;
  }
  set port(port) {
    const text = String(port);
    this.#port = text === "" || PORTS[this.#protocol] === String(Number(text)) ? "" : String(Number(text));
  }

  get host() {
    return this.#port === "" ? this.#hostname : `${this.#hostname}:${this.#port}`;
  }
  set host(host) {
    this.#readAuthority(String(host));
  }

  get origin() {
    return this.#hostname === "" ? "null" : `${this.#protocol}//${this.host}`;
  }

  get pathname() {
    return this.#pathname;
  }
  set pathname(pathname) {
    this.#pathname = normal(String(pathname));
  }

  get search() {
    return this.#query ? `?${this.#query}` : "";
  }
  set search(search) {
    const query = escaped(String(search).replace(/^\?/, ""), QUERY);
    this.#query = query === "" ? undefined : query;
    this.#params?.read(query);
  }

  get searchParams() {
    if (this.#params === undefined) {
      this.#params = new URLSearchParams(this.#query);
      this.#params.belongTo(this);
    }
    return this.#params;
  }

  /** What its parameters say when they have changed. Not of the standard. */
  set paramsQuery(query) {
    this.#query = query === "" ? undefined : query;
  }

  get hash() {
    return this.#hash ? `#${this.#hash}` : "";
  }
  set hash(hash) {
    this.#hash = escaped(String(hash).replace(/^#/, ""), HASH) || undefined;
  }

  get href() {
    const query = this.#query === undefined ? "" : `?${this.#query}`;
    const tail = `${this.#pathname}${query}${this.#hash === undefined ? "" : `#${this.#hash}`}`;
    if (this.#hostname === "") {
      return `${this.#protocol}${tail}`;
    }
    const password = this.#password === "" ? "" : `:${this.#password}`;
    const user = this.#username === "" && password === "" ? "" : `${this.#username}${password}@`;
    return `${this.#protocol}//${user}${this.host}${tail}`;
  }

  toString() {
    return this.href;
  }

  toJSON() {
    return this.href;
  }

  get [Symbol.toStringTag]() {
    return "URL";
  }
}

// What is percent-encoded in which part, besides controls and what is not ASCII.
const OPAQUE = /[\x00-\x1f\x7f-\u{10ffff}]/gu;
const PATH = /[\x00-\x20"#<>?^`{}\x7f-\u{10ffff}]/gu;
const QUERY = /[\x00-\x20"#<>'\x7f-\u{10ffff}]/gu;
const HASH = /[\x00-\x20"<>`\x7f-\u{10ffff}]/gu;
const USER = /[\x00-\x20"#/:;<=>?@[\]^`{|}\x7f-\u{10ffff}]/gu;

function escaped(text, which) {
  return text.toWellFormed().replace(which, (letter) => {
    const code = letter.codePointAt(0);
    return code < 0x80 ? `%${code.toString(16).toUpperCase().padStart(2, "0")}` : encodeURIComponent(letter);
  });
}

/** A path that begins with a slash and has no `.` and `..`. */
function normal(path) {
  const parts = path.replaceAll("\\", "/").replace(/^\//, "").split("/");
  const kept = [];
  parts.forEach((part, number) => {
    const last = number === parts.length - 1;
    const plain = part.replace(/%2e/gi, ".");
    if (plain === "..") {
      kept.pop();
    }
    if (plain !== "." && plain !== "..") {
      kept.push(escaped(part, PATH));
    } else if (last) {
      kept.push("");
    }
  });
  return `/${kept.join("/")}`;
}

export class URLSearchParams {
  #pairs = [];
  /** Whose query it is. */
  #url;

  constructor(init = undefined) {
    if (init === undefined) {
      return;
    }
    if (typeof init !== "object" || init === null) {
      const query = String(init);
      this.read(query.startsWith("?") ? query.slice(1) : query);
      return;
    }
    const pairs = typeof init[Symbol.iterator] === "function" ? init : Object.entries(init);
    this.#pairs = Array.from(pairs, ([name, value]) => [String(name), String(value)]);
  }

  /** Has a URL told of every change. Not of the standard. */
  belongTo(url) {
    this.#url = url;
  }

  /** Reads a query. Not of the standard. */
  read(query) {
    const isPlain = !query.includes("%") && !query.includes("+");
    const pairs = [];
    for (const piece of query.split("&")) {
      if (piece !== "") {
        const middle = piece.indexOf("=");
        const name = middle < 0 ? piece : piece.slice(0, middle);
        const value = middle < 0 ? "" : piece.slice(middle + 1);
        pairs.push(isPlain ? [name, value] : [unescaped(name), unescaped(value)]);
      }
    }
    this.#pairs = pairs;
  }

  #change(pairs) {
    this.#pairs = pairs;
    if (this.#url !== undefined) {
      this.#url.paramsQuery = this.toString();
    }
  }

  get size() {
    return this.#pairs.length;
  }

  append(name, value) {
    this.#change([...this.#pairs, [String(name), String(value)]]);
  }

  delete(name, value) {
    this.#change(this.#pairs.filter((pair) => !matches(pair, name, value)));
  }

  get(name) {
    const wanted = String(name);
    for (const pair of this.#pairs) {
      if (pair[0] === wanted) {
        return pair[1];
      }
    }
    return null;
  }

  getAll(name) {
    return this.#pairs.filter((pair) => matches(pair, name)).map((pair) => pair[1]);
  }

  has(name, value) {
    return this.#pairs.some((pair) => matches(pair, name, value));
  }

  set(name, value) {
    const first = this.#pairs.findIndex((pair) => matches(pair, name));
    const others = this.#pairs.filter((pair, number) => number <= first || !matches(pair, name));
    if (first < 0) {
      others.push([String(name), String(value)]);
    } else {
      others[first] = [String(name), String(value)];
    }
    this.#change(others);
  }

  sort() {
    // Sorting is stable, as it must be.
    this.#change(this.#pairs.toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
  }

  *entries() {
    for (const [name, value] of this.#pairs) {
      yield [name, value];
    }
  }

  *keys() {
    for (const [name] of this.#pairs) {
      yield name;
    }
  }

  *values() {
    for (const [, value] of this.#pairs) {
      yield value;
    }
  }

  [Symbol.iterator]() {
    return this.entries();
  }

  forEach(act, self) {
    for (const [name, value] of this) {
      act.call(self, value, name, this);
    }
  }

  toString() {
    const form = (text) =>
      encodeURIComponent(text.toWellFormed())
        .replace(/[!'()~]/g, (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`)
        .replaceAll("%20", "+");
    return this.#pairs.map(([name, value]) => `${form(name)}=${form(value)}`).join("&");
  }

  get [Symbol.toStringTag]() {
    return "URLSearchParams";
  }
}

function matches(pair, name, value) {
  return pair[0] === String(name) && (value === undefined || pair[1] === String(value));
}

/** A percent sign that encodes nothing stands for itself. */
function unescaped(text) {
  const spaced = text.replaceAll("+", " ");
  try {
    return decodeURIComponent(spaced);
  } catch {
    return spaced.replace(/(%[0-9a-fA-F]{2})+/g, (run) => decode(Uint8Array.fromHex(run.replaceAll("%", ""))));
  }
}
