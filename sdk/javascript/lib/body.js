// What requests and responses have in common: a body that is there as a whole, and is read once.

import { Promise } from "./promise.js";
import { bytesOf, decode, encode } from "./text.js";
import { URLSearchParams } from "./url.js";

const NONE = new Uint8Array();
const TEXT = "text/plain;charset=UTF-8";
const FORM = "application/x-www-form-urlencoded;charset=UTF-8";

export class Body {
  #content;
  #used = false;

  /** `init` is what people give. */
  constructor(init) {
    this.#content = init ?? undefined;
  }

  /** The media type that the body has by itself. Not of the standard. */
  get ownType() {
    const content = this.#content;
    if (typeof content === "string") {
      return TEXT;
    }
    if (content === undefined || bytesOf(content)) {
      return undefined;
    }
    return content instanceof URLSearchParams ? FORM : TEXT;
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
    const content = this.#content;
    if (content === undefined) {
      return NONE;
    }
    this.#used = true;
    return typeof content === "string" ? encode(content) : (bytesOf(content) ?? encode(String(content)));
  }

  /** What another one with the same body is given. Not of the standard. */
  share() {
    if (this.#used) {
      throw new TypeError("the body was read already");
    }
    return this.#content;
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
