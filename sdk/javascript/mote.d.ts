// What a function finds on a node: the module `mote`, and the names that are there without an import.
// Which of the standards' names there are, and how far they go, is what is written here.

declare module "mote" {
  /** A function, as a module exports it: `export default { fetch(request) { … } } satisfies Handler`. */
  export interface Handler {
    /** Answers one call. What it throws is status 500 with the error's message, and stands in the log. */
    fetch(request: Request): Response | Promise<Response>;
  }

  /** What is said about a call of a sibling besides its name and target. */
  export interface CallInit {
    /** `GET` if not given. */
    method?: string;
    headers?: HeadersInit;
    body?: BodyInit | null;
  }

  /**
   * Calls another function of the same app. The call begins at once, so several run at the same time:
   * `await Promise.all([call("one"), call("two")])`.
   * @param name Its name.
   * @param target The path and query after its name: empty, or starting with `/` or `?`.
   * @throws CallError when there is no reply. A reply with status 500 is a reply.
   */
  export function call(name: string, target?: string, init?: CallInit): Promise<Response>;

  /** Hands a call over to the node, which runs it on its own, and returns its id. Its reply goes nowhere. */
  export function spawn(name: string, target?: string, init?: CallInit): string;

  /** Why there is no reply of a sibling. */
  export class CallError extends Error {
    readonly kind:
      | "bad-request"
      | "forbidden"
      | "not-found"
      | "too-large"
      | "throttled"
      | "function-failed"
      | "overloaded"
      | "timeout"
      | "storage-full"
      | "internal";
  }

  /**
   * Small values that the functions of an app share and that outlive their calls.
   * The manifest must say `allow.keyvalue = true`. A key has 1 to 512 bytes, a value at most 64 KiB.
   * @throws KeyValueError whatever is asked.
   */
  export interface Bucket {
    /** The value of a key, `null` when there is none. */
    get(key: string): Uint8Array | null;
    getText(key: string): string | null;
    getJson<T = unknown>(key: string): T | null;
    /** Sets a key. A value that is refused leaves the old one. */
    set(key: string, value: string | BufferSource): void;
    setJson(key: string, value: unknown): void;
    delete(key: string): void;
    has(key: string): boolean;
    /**
     * Adds to a number, 1 if not given, with nothing in between, and returns the sum. The value is decimal text; a key
     * that is not there counts as 0. Sums beyond 2⁵³ lose digits.
     */
    increment(key: string, by?: number): number;
    /** All keys, in the order of their bytes. */
    keys(): IterableIterator<string>;
    /**
     * Sets a key to what `change` makes of its value, with nothing in between: when the key was changed meanwhile,
     * `change` is asked again, up to ten times.
     */
    update(key: string, change: (old: Uint8Array | null) => string | BufferSource): void;
  }

  /** The bucket `default`, and a way to others: a bucket is a name space, and is there as soon as it has a key. */
  export const kv: Bucket & { open(name: string): Bucket };

  /** Why something with key-value data did not work. */
  export class KeyValueError extends Error {
    readonly kind: "no-such-store" | "access-denied" | "changed" | "other";
  }

  /** The `env` of the manifest, and the secrets that it asks for by `allow.secrets = ["NAME"]`. */
  export const config: {
    get(name: string): string | undefined;
    all(): Record<string, string>;
  };

  /** Writes a line to the function's log. `console.debug` to `console.error` do the same. */
  export function log(level: "trace" | "debug" | "info" | "warn" | "error", ...things: unknown[]): void;

  /**
   * Makes this reply the published value of the called path and query: what observers are shown from now on.
   * Without `observable = true` in the manifest it has no effect.
   */
  export function publish(): void;

  /** The id of this call, as it stands in logs and in the header `Mote-Call-Id` of the reply. */
  export function callId(): string;
}

type BufferSource = ArrayBufferView | ArrayBuffer;
type BodyInit = string | BufferSource | URLSearchParams;
type HeadersInit = Headers | Iterable<[string, string]> | Record<string, string>;

declare class Headers implements Iterable<[string, string]> {
  constructor(init?: HeadersInit);
  append(name: string, value: string): void;
  set(name: string, value: string): void;
  delete(name: string): void;
  get(name: string): string | null;
  has(name: string): boolean;
  getSetCookie(): string[];
  entries(): IterableIterator<[string, string]>;
  keys(): IterableIterator<string>;
  values(): IterableIterator<string>;
  forEach(act: (value: string, name: string, headers: Headers) => void): void;
  [Symbol.iterator](): IterableIterator<[string, string]>;
}

/** A body is there as a whole; there are no streams. */
interface Body {
  readonly body: null;
  readonly bodyUsed: boolean;
  text(): Promise<string>;
  json(): Promise<any>;
  bytes(): Promise<Uint8Array>;
  arrayBuffer(): Promise<ArrayBuffer>;
}

interface RequestInit {
  method?: string;
  headers?: HeadersInit;
  body?: BodyInit | null;
}

/** The path of its `url` is what follows the function's name. */
declare class Request implements Body {
  constructor(input: string | URL | Request, init?: RequestInit);
  readonly method: string;
  readonly url: string;
  readonly headers: Headers;
  clone(): Request;
  readonly body: null;
  readonly bodyUsed: boolean;
  text(): Promise<string>;
  json(): Promise<any>;
  bytes(): Promise<Uint8Array>;
  arrayBuffer(): Promise<ArrayBuffer>;
}

interface ResponseInit {
  /** 200 if not given; from 200 to 599. */
  status?: number;
  statusText?: string;
  headers?: HeadersInit;
}

declare class Response implements Body {
  constructor(body?: BodyInit | null, init?: ResponseInit);
  static json(data: unknown, init?: ResponseInit): Response;
  static redirect(url: string | URL, status?: number): Response;
  readonly status: number;
  readonly ok: boolean;
  readonly statusText: string;
  readonly headers: Headers;
  clone(): Response;
  readonly body: null;
  readonly bodyUsed: boolean;
  text(): Promise<string>;
  json(): Promise<any>;
  bytes(): Promise<Uint8Array>;
  arrayBuffer(): Promise<ArrayBuffer>;
}

declare class URLSearchParams implements Iterable<[string, string]> {
  constructor(init?: string | Iterable<[string, string]> | Record<string, string>);
  readonly size: number;
  append(name: string, value: string): void;
  delete(name: string, value?: string): void;
  get(name: string): string | null;
  getAll(name: string): string[];
  has(name: string, value?: string): boolean;
  set(name: string, value: string): void;
  sort(): void;
  entries(): IterableIterator<[string, string]>;
  keys(): IterableIterator<string>;
  values(): IterableIterator<string>;
  forEach(act: (value: string, name: string, params: URLSearchParams) => void): void;
  toString(): string;
  [Symbol.iterator](): IterableIterator<[string, string]>;
}

/** Hosts are ASCII. */
declare class URL {
  constructor(address: string | URL, base?: string | URL);
  static canParse(address: string | URL, base?: string | URL): boolean;
  static parse(address: string | URL, base?: string | URL): URL | null;
  protocol: string;
  username: string;
  password: string;
  host: string;
  hostname: string;
  port: string;
  pathname: string;
  search: string;
  hash: string;
  readonly href: string;
  readonly origin: string;
  readonly searchParams: URLSearchParams;
  toString(): string;
  toJSON(): string;
}

/** UTF-8. */
declare class TextEncoder {
  readonly encoding: "utf-8";
  encode(text?: string): Uint8Array;
  encodeInto(text: string, into: Uint8Array): { read: number; written: number };
}

/** UTF-8. */
declare class TextDecoder {
  constructor(label?: string, options?: { fatal?: boolean; ignoreBOM?: boolean });
  readonly encoding: "utf-8";
  readonly fatal: boolean;
  readonly ignoreBOM: boolean;
  decode(source?: BufferSource): string;
}

/** Writes to the function's log. */
declare const console: Record<
  "trace" | "debug" | "log" | "info" | "warn" | "error" | "dir",
  (...things: unknown[]) => void
> & { assert(holds: unknown, ...things: unknown[]): void };

declare const crypto: {
  getRandomValues<T extends ArrayBufferView>(view: T): T;
  randomUUID(): string;
};

declare const performance: { now(): number; readonly timeOrigin: number };

declare const self: typeof globalThis;
declare function atob(text: string): string;
declare function btoa(bytes: string): string;
declare function queueMicrotask(act: () => void): void;
/** Timers run while a handler waits for its promise and nothing else is to be done. */
declare function setTimeout(act: (...args: any[]) => void, delay?: number, ...args: any[]): number;
declare function setInterval(act: (...args: any[]) => void, delay?: number, ...args: any[]): number;
declare function clearTimeout(timer?: number): void;
declare function clearInterval(timer?: number): void;
