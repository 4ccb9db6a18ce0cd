// Promises whose jobs are in our own queue (see loop.js). They behave as those of the language (ECMA-262 §27.2), but
// for subclasses: `then` always gives a Promise.

import { enqueue, settle as settleWith } from "./loop.js";

const PENDING = 0;
const FULFILLED = 1;
const REJECTED = 2;

/** Promises that were rejected and that nobody asked. */
const unheard = new Set();

/** The reasons nobody heard of, which are forgotten; `undefined` when there are none, as mostly. */
export function unheardReasons() {
  if (unheard.size === 0) {
    return undefined;
  }
  const reasons = [...unheard].map((promise) => Promise.outcomeOf(promise).reason);
  unheard.clear();
  return reasons;
}

/** What a value is when nothing is left to wait for: see loop.js. Any thenable will do. */
export function settle(value) {
  const promise = typeof value?.then === "function" ? Promise.resolve(value) : value;
  return settleWith(promise, Promise.outcomeOf);
}

export function forgetUnheard() {
  unheard.clear();
}

/** Given to the constructor by those who settle the promise themselves. */
const BY_HAND = () => {};

export class Promise {
  #state = PENDING;
  #value = undefined;
  /** Nothing when there is none, and after it is settled. */
  #reactions;

  constructor(executor) {
    if (executor === BY_HAND) {
      return;
    }
    if (typeof executor !== "function") {
      throw new TypeError("a promise needs a function");
    }
    const { resolve, reject } = this.#resolvers();
    try {
      executor(resolve, reject);
    } catch (error) {
      reject(error);
    }
  }

  /** A pair of functions of which only the first call counts. */
  #resolvers() {
    let called = false;
    const once = (act) => (value) => {
      if (!called) {
        called = true;
        act(value);
      }
    };
    return {
      resolve: once((value) => this.#resolve(value)),
      reject: once((reason) => this.#settle(REJECTED, reason)),
    };
  }

  #resolve(value) {
    if (value === this) {
      this.#settle(REJECTED, new TypeError("a promise cannot be resolved with itself"));
      return;
    }
    if ((typeof value !== "object" || value === null) && typeof value !== "function") {
      this.#settle(FULFILLED, value);
      return;
    }
    let then;
    try {
      then = value.then;
    } catch (error) {
      this.#settle(REJECTED, error);
      return;
    }
    if (typeof then !== "function") {
      this.#settle(FULFILLED, value);
      return;
    }
    const { resolve, reject } = this.#resolvers();
    enqueue(() => {
      try {
        then.call(value, resolve, reject);
      } catch (error) {
        reject(error);
      }
    });
  }

  #settle(state, value) {
    this.#state = state;
    this.#value = value;
    const reactions = this.#reactions;
    if (reactions === undefined) {
      if (state === REJECTED) {
        unheard.add(this);
      }
      return;
    }
    this.#reactions = undefined;
    for (const reaction of reactions) {
      this.#react(reaction);
    }
  }

  #react({ promise, onFulfilled, onRejected }) {
    const state = this.#state;
    const value = this.#value;
    enqueue(() => {
      const handler = state === FULFILLED ? onFulfilled : onRejected;
      if (typeof handler !== "function") {
        if (state === FULFILLED) {
          promise.#resolve(value);
        } else {
          promise.#settle(REJECTED, value);
        }
        return;
      }
      let result;
      try {
        result = handler(value);
      } catch (error) {
        promise?.#settle(REJECTED, error);
        return;
      }
      promise?.#resolve(result);
    });
  }

  /** Has one of the functions called when it is settled, and settles the promise, if any, with what that gives. */
  #when(promise, onFulfilled, onRejected) {
    const reaction = { promise, onFulfilled, onRejected };
    if (this.#state === PENDING) {
      (this.#reactions ??= []).push(reaction);
    } else {
      unheard.delete(this);
      this.#react(reaction);
    }
  }

  then(onFulfilled, onRejected) {
    const promise = new Promise(BY_HAND);
    this.#when(promise, onFulfilled, onRejected);
    return promise;
  }

  /** What an `async` function is after bundling: a generator, which yields what is awaited. Not of the standard. */
  static run(self, given, generator) {
    const promise = new Promise(BY_HAND);
    let running, step;
    try {
      running = generator.apply(self, given);
      step = running.next();
    } catch (error) {
      promise.#settle(REJECTED, error);
      return promise;
    }
    promise.#follow(running, step);
    return promise;
  }

  /** Is settled with what a generator returns, or waits for what it has yielded. */
  #follow(running, step) {
    if (step.done) {
      this.#resolve(step.value);
      return;
    }
    const awaited = Promise.resolve(step.value);
    awaited.#when(
      undefined,
      (value) => this.#resume(running, running.next, value),
      (reason) => this.#resume(running, running.throw, reason),
    );
  }

  #resume(running, method, value) {
    let step;
    try {
      step = method.call(running, value);
    } catch (error) {
      this.#settle(REJECTED, error);
      return;
    }
    this.#follow(running, step);
  }

  catch(onRejected) {
    return this.then(undefined, onRejected);
  }

  finally(onFinally) {
    if (typeof onFinally !== "function") {
      return this.then(onFinally, onFinally);
    }
    return this.then(
      (value) => Promise.resolve(onFinally()).then(() => value),
      (reason) =>
        Promise.resolve(onFinally()).then(() => {
          throw reason;
        }),
    );
  }

  get [Symbol.toStringTag]() {
    return "Promise";
  }

  /** What became of a promise, `undefined` when it is pending: `{ result }`, or `{ reason, failed: true }`, and then
   * it was heard. Not of the standard. */
  static outcomeOf(promise) {
    switch (promise.#state) {
      case FULFILLED:
        return { result: promise.#value };
      case REJECTED:
        unheard.delete(promise);
        return { reason: promise.#value, failed: true };
      default:
        return undefined;
    }
  }

  static withResolvers() {
    const promise = new Promise(BY_HAND);
    return { promise, ...promise.#resolvers() };
  }

  static resolve(value) {
    if (value instanceof Promise) {
      return value;
    }
    const promise = new Promise(BY_HAND);
    promise.#resolve(value);
    return promise;
  }

  static reject(reason) {
    const promise = new Promise(BY_HAND);
    promise.#settle(REJECTED, reason);
    return promise;
  }

  static try(act, ...args) {
    return new Promise((resolve) => resolve(act(...args)));
  }

  static all(values) {
    return gather(values, (each, { resolve, reject, set, done }) => {
      each.then((value) => {
        set(value);
        done((results) => resolve(results));
      }, reject);
    });
  }

  static allSettled(values) {
    return gather(values, (each, { resolve, set, done }) => {
      const end = (result) => {
        set(result);
        done((results) => resolve(results));
      };
      each.then(
        (value) => end({ status: "fulfilled", value }),
        (reason) => end({ status: "rejected", reason }),
      );
    });
  }

  static any(values) {
    return gather(
      values,
      (each, { resolve, reject, set, done }) => {
        each.then(resolve, (reason) => {
          set(reason);
          done((reasons) => reject(new AggregateError(reasons, "all promises were rejected")));
        });
      },
      (reject) => reject(new AggregateError([], "all promises were rejected")),
    );
  }

  static race(values) {
    return new Promise((resolve, reject) => {
      for (const value of values) {
        Promise.resolve(value).then(resolve, reject);
      }
    });
  }
}

/** A promise of many: `each` is told of every one, with where its result goes and what to do after the last. */
function gather(values, each, whenNone = undefined) {
  return new Promise((resolve, reject) => {
    const results = [];
    let left = 1;
    const done = (last) => {
      left -= 1;
      if (left === 0) {
        last(results);
      }
    };
    let index = 0;
    for (const value of values) {
      const at = index;
      index += 1;
      left += 1;
      const set = (result) => (results[at] = result);
      each(Promise.resolve(value), { resolve, reject, set, done });
    }
    done(() => (whenNone && index === 0 ? whenNone(reject) : resolve(results)));
  });
}
