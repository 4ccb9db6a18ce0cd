// What runs a handler to its end.
//
// A component's function returns when it is done: nobody calls it back. So promises, timers and calls of siblings are
// driven from here, until the promise of the handler is settled. That is also why promises are our own: the engine
// runs the jobs of its own ones for nobody.

/** Jobs of promises, in their order. */
let jobs = [];
/** Things to wait for when there are no jobs, the first one first. */
let waits = [];

/** Adds a job. */
export function enqueue(job) {
  jobs.push(job);
}

/** Adds something to wait for: `wait` does so and then makes jobs, `drop` is for what nobody waits for. */
export function awaiting(wait, drop) {
  waits.push({ wait, drop });
}

/** Timers, for when there is nothing else. `next` gives a function that waits for the next one and runs it. */
let timers = { next: () => undefined, clear() {} };

/** Sets where timers come from. */
export function timersFrom(source) {
  timers = source;
}

/** Ends what a call has left: what is not done when it answers is not done at all. */
export function abandon() {
  timers.clear();
  if (jobs.length > 0) {
    jobs = [];
  }
  if (waits.length > 0) {
    const left = waits;
    waits = [];
    for (const { drop } of left) {
      drop();
    }
  }
}

/** Runs jobs until there are none. */
export function drain() {
  while (jobs.length > 0) {
    const now = jobs;
    jobs = [];
    for (const job of now) {
      job();
    }
  }
}

/**
 * What a value is when nothing is left to wait for. A promise is waited for, and gives its value or throws its
 * reason. `outcomeOf` says what became of a promise.
 */
export function settle(value, outcomeOf) {
  if (typeof value?.then !== "function") {
    drain();
    return value;
  }
  for (;;) {
    drain();
    const outcome = outcomeOf(value);
    if (outcome?.failed) {
      throw outcome.reason;
    }
    if (outcome) {
      return outcome.result;
    }
    const wait = waits.shift()?.wait ?? timers.next();
    if (!wait) {
      throw new Error("the handler's promise is never settled: nothing is left to wait for");
    }
    wait();
  }
}
