// A request, as the Fetch standard has it, as far as it means something to who answers it.

import { Body } from "./body.js";
import { Headers } from "./headers.js";
import { URL } from "./url.js";

/** Written in any case, and meant in upper case. */
const METHODS = /^(delete|get|head|options|post|put|patch)$/i;

export class Request extends Body {
  #method;
  #url;
  #headers;

  constructor(input, init = {}) {
    const from = input instanceof Request ? input : undefined;
    const body = init.body ?? from?.share();
    const headers = new Headers(init.headers ?? from?.headers ?? []);
    super(body, (type) => headers.has("content-type") || headers.set("content-type", type));
    const method = String(init.method ?? from?.method ?? "GET");
    this.#method = METHODS.test(method) ? method.toUpperCase() : method;
    this.#url = from ? from.url : new URL(String(input)).href;
    this.#headers = headers;
  }

  get method() {
    return this.#method;
  }

  get url() {
    return this.#url;
  }

  get headers() {
    return this.#headers;
  }

  clone() {
    return new Request(this);
  }

  get [Symbol.toStringTag]() {
    return "Request";
  }
}
