// Headers, as the Fetch standard has them (https://fetch.spec.whatwg.org/#headers-class), without guards.

const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const VALUE = /^[\t\x20-\x7e\x80-\u{10ffff}]*$/u;

export class Headers {
  /** Pairs in the order they were set, names in lower case. */
  #pairs = [];

  constructor(init = undefined) {
    if (init === undefined) {
      return;
    }
    if (init === null || typeof init !== "object") {
      throw new TypeError("headers are a list of pairs or an object");
    }
    const pairs = typeof init[Symbol.iterator] === "function" ? init : Object.entries(init);
    for (const [name, value] of pairs) {
      this.append(name, value);
    }
  }

  append(name, value) {
    this.#pairs.push([checkedName(name), checkedValue(name, value)]);
  }

  set(name, value) {
    const key = checkedName(name);
    const text = checkedValue(name, value);
    const first = this.#pairs.find((pair) => pair[0] === key);
    if (!first) {
      this.#pairs.push([key, text]);
      return;
    }
    first[1] = text;
    this.#pairs = this.#pairs.filter((pair) => pair[0] !== key || pair === first);
  }

  delete(name) {
    const key = checkedName(name);
    this.#pairs = this.#pairs.filter((pair) => pair[0] !== key);
  }

  get(name) {
    const values = this.#all(checkedName(name));
    return values.length > 0 ? values.join(", ") : null;
  }

  has(name) {
    return this.#all(checkedName(name)).length > 0;
  }

  getSetCookie() {
    return this.#all("set-cookie");
  }

  #all(key) {
    return this.#pairs.filter((pair) => pair[0] === key).map((pair) => pair[1]);
  }

  /** Sets a header that has no value yet; name and value are known to be valid. Not of the standard. */
  suggest(key, value) {
    if (!this.#pairs.some((pair) => pair[0] === key)) {
      this.#pairs.push([key, value]);
    }
  }

  /** The pairs as they were set. Not of the standard. */
  raw() {
    return this.#pairs;
  }

  /** By name, values of one name joined, but for those of cookies. */
  *entries() {
    const names = [...new Set(this.#pairs.map((pair) => pair[0]))].sort();
    for (const name of names) {
      if (name === "set-cookie") {
        for (const value of this.getSetCookie()) {
          yield [name, value];
        }
      } else {
        yield [name, this.get(name)];
      }
    }
  }

  *keys() {
    for (const [name] of this) {
      yield name;
    }
  }

  *values() {
    for (const [, value] of this) {
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

  get [Symbol.toStringTag]() {
    return "Headers";
  }
}

function checkedName(name) {
  const text = String(name);
  if (!NAME.test(text)) {
    throw new TypeError(`a header cannot have the name ${JSON.stringify(text)}`);
  }
  return text.toLowerCase();
}

function checkedValue(name, value) {
  const text = String(value).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
  if (!VALUE.test(text)) {
    throw new TypeError(`the header ${name} cannot have the value ${JSON.stringify(text)}`);
  }
  return text;
}
