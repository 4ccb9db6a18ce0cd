// A response, as the Fetch standard has it.

import { Body } from "./body.js";
import { Headers } from "./headers.js";
import { URL } from "./url.js";

const WITHOUT_BODY = [204, 205, 304];
const REDIRECTS = [301, 302, 303, 307, 308];

export class Response extends Body {
  #status = 200;
  #statusText = "";
  /** Made when somebody asks for them. */
  #headers;

  constructor(body = null, init = undefined) {
    super(body);
    if (init === undefined) {
      return;
    }
    const { status = 200, statusText = "", headers } = init;
    if (!Number.isInteger(status) || status < 200 || status > 599) {
      throw new RangeError(`the status ${status} is not within 200 to 599`);
    }
    if (body !== null && body !== undefined && WITHOUT_BODY.includes(status)) {
      throw new TypeError(`a response with status ${status} has no body`);
    }
    this.#status = status;
    this.#statusText = String(statusText);
    if (headers !== undefined) {
      this.#headers = this.#complete(new Headers(headers));
    }
  }

  #complete(headers) {
    const type = this.ownType;
    if (type !== undefined) {
      headers.suggest("content-type", type);
    }
    return headers;
  }

  static json(data, init = {}) {
    const text = JSON.stringify(data);
    if (text === undefined) {
      throw new TypeError("what is no JSON cannot be answered as JSON");
    }
    const headers = new Headers(init.headers);
    if (!headers.has("content-type")) {
      headers.set("content-type", "application/json");
    }
    return new Response(text, { ...init, headers });
  }

  static redirect(url, status = 302) {
    if (!REDIRECTS.includes(status)) {
      throw new RangeError(`the status ${status} does not redirect`);
    }
    return new Response(null, { status, headers: { location: new URL(String(url)).href } });
  }

  get status() {
    return this.#status;
  }

  get ok() {
    return this.#status < 300;
  }

  get statusText() {
    return this.#statusText;
  }

  get headers() {
    return (this.#headers ??= this.#complete(new Headers()));
  }

  /** Calls a function with each header, as it was set. Not of the standard. */
  eachHeader(tell) {
    if (this.#headers === undefined) {
      const type = this.ownType;
      if (type !== undefined) {
        tell("content-type", type);
      }
      return;
    }
    for (const pair of this.#headers.raw()) {
      tell(pair[0], pair[1]);
    }
  }

  clone() {
    const { status, statusText, headers } = this;
    return new Response(this.share(), { status, statusText, headers: headers.raw() });
  }

  get [Symbol.toStringTag]() {
    return "Response";
  }
}
