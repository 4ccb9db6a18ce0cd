// A request, as the Fetch standard has it, as far as it means something to who answers it.

import { Body } from "./body.js";
import { Headers } from "./headers.js";
import { URL } from "./url.js";

/** A request whose parts are asked for one by one: most handlers look at few. */
export class Source {}

/** Written in any case, and meant in upper case. */
const METHODS = /^(delete|get|head|options|post|put|patch)$/i;

export class Request extends Body {
  #method;
  #url;
  #headers;
  /** Where the rest comes from when somebody asks for it. */
  #source;

  constructor(input, init = {}) {
    if (input instanceof Source) {
      super(init);
      this.#source = input;
      return;
    }
    const from = input instanceof Request ? input : undefined;
    super(init.body ?? from?.share());
    const method = String(init.method ?? from?.method ?? "GET");
    this.#method = METHODS.test(method) ? method.toUpperCase() : method;
    this.#url = from ? from.url : new URL(String(input)).href;
    this.#headers = new Headers(init.headers ?? from?.headers);
    const type = this.ownType;
    if (type !== undefined) {
      this.#headers.suggest("content-type", type);
    }
  }

  get method() {
    return (this.#method ??= this.#source.method());
  }

  get url() {
    return (this.#url ??= this.#source.url());
  }

  get headers() {
    return (this.#headers ??= new Headers(this.#source.headers()));
  }

  clone() {
    return new Request(this);
  }

  get [Symbol.toStringTag]() {
    return "Request";
  }
}
