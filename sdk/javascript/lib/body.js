// What requests and responses have in common: a body that is there as a whole, and is read once.

import { Promise } from "./promise.js";
import { bytesOf, decode, encode } from "./text.js";
import { URLSearchParams } from "./url.js";

const NONE = new Uint8Array();

export class Body {
  #bytes;
  #used = false;

  /** `init` is what people give; `type` is set to its media type when it has one. */
  constructor(init, setType) {
    if (init === undefined || init === null) {
      this.#bytes = undefined;
    } else if (init instanceof URLSearchParams) {
      this.#bytes = encode(String(init));
      setType("application/x-www-form-urlencoded;charset=UTF-8");
    } else if (bytesOf(init)) {
      this.#bytes = bytesOf(init);
    } else {
      this.#bytes = encode(String(init));
      setType("text/plain;charset=UTF-8");
    }
  }

  /** Streams there are none: it is `null`, as for a body of nothing. */
  get body() {
    return null;
  }

  get bodyUsed() {
    return this.#used;
  }

  /** The bytes, once. Not of the standard. */
  take() {
    if (this.#used) {
      throw new TypeError("the body was read already");
    }
    this.#used = this.#bytes !== undefined;
    return this.#bytes ?? NONE;
  }

  /** The bytes for another one with the same body. Not of the standard. */
  share() {
    if (this.#used) {
      throw new TypeError("the body was read already");
    }
    return this.#bytes;
  }

  text() {
    return Promise.try(() => withoutMark(decode(this.take())));
  }

  json() {
    return Promise.try(() => JSON.parse(withoutMark(decode(this.take()))));
  }

  bytes() {
    return Promise.try(() => this.take().slice());
  }

  arrayBuffer() {
    return Promise.try(() => this.take().slice().buffer);
  }
}

function withoutMark(text) {
  return text.startsWith("\ufeff") ? text.slice(1) : text;
}
