// Timers. They run when a handler waits for its promise and nothing else is to be done; a timer that nobody waits for
// ends with the call.

import clock from "wasi:clocks/monotonic-clock@0.2.12";

import { timersFrom } from "./loop.js";

const NS_PER_MS = 1e6;

/** By number: when it is due, in nanoseconds, and what it does. */
const timers = new Map();
let last = 0;

function add(act, delay, args, every) {
  if (typeof act !== "function") {
    throw new TypeError("a timer needs a function");
  }
  const wait = Math.max(0, Number(delay) || 0) * NS_PER_MS;
  last += 1;
  timers.set(last, { due: clock.now() + wait, act: () => act(...args), every: every ? Math.max(wait, NS_PER_MS) : 0 });
  return last;
}

export function setTimeout(act, delay = 0, ...args) {
  return add(act, delay, args, false);
}

export function setInterval(act, delay = 0, ...args) {
  return add(act, delay, args, true);
}

export function clearTimer(number) {
  timers.delete(number);
}

timersFrom({
  next() {
    let first;
    for (const [number, timer] of timers) {
      if (!first || timer.due < first.timer.due) {
        first = { number, timer };
      }
    }
    return first && (() => fire(first));
  },
  clear: () => timers.clear(),
});

function fire({ number, timer }) {
  const left = timer.due - clock.now();
  if (left > 0) {
    clock.subscribeDuration(left).block();
  }
  if (timer.every > 0) {
    timer.due = clock.now() + timer.every;
  } else {
    timers.delete(number);
  }
  timer.act();
}
