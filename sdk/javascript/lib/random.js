// Random numbers.
//
// A call begins with a snapshot of the memory, so the engine's own numbers would be the same in every call. These are
// seeded anew for each: splitmix64 gives the states of xoshiro128** (Blackman and Vigna).

import random from "wasi:random/random@0.2.12";

const state = new Uint32Array(4);
let seeded = false;

/** Says that a call begins. Most ask for no number, and asking the system costs something. */
export function renew() {
  seeded = false;
}

function next() {
  if (!seeded) {
    seeded = true;
    state.set(new Uint32Array(bytes(16).slice().buffer));
    state[0] |= 1;
  }
  const result = Math.imul(rotated(Math.imul(state[1], 5), 7), 9) >>> 0;
  const shifted = state[1] << 9;
  state[2] ^= state[0];
  state[3] ^= state[1];
  state[1] ^= state[2];
  state[0] ^= state[3];
  state[2] ^= shifted;
  state[3] = rotated(state[3], 11);
  return result;
}

function rotated(word, by) {
  return (word << by) | (word >>> (32 - by));
}

/** As `Math.random` is to be: 53 bits, and not for secrets. */
export function mathRandom() {
  const high = next() >>> 5;
  const low = next() >>> 6;
  return (high * 0x4000000 + low) / 0x20000000000000;
}

function bytes(count) {
  return random.getRandomBytes(count);
}

const QUOTA_BYTES = 65536;

export const crypto = {
  /** Numbers of the system, good for secrets. */
  getRandomValues(view) {
    if (!ArrayBuffer.isView(view) || view instanceof DataView || /^Float/.test(view.constructor.name)) {
      throw new TypeError("random values go into an array of whole numbers");
    }
    if (view.byteLength > QUOTA_BYTES) {
      throw new RangeError(`at most ${QUOTA_BYTES} random bytes are given at once`);
    }
    new Uint8Array(view.buffer, view.byteOffset, view.byteLength).set(bytes(view.byteLength));
    return view;
  },

  randomUUID() {
    const id = bytes(16);
    id[6] = (id[6] & 0x0f) | 0x40;
    id[8] = (id[8] & 0x3f) | 0x80;
    return id.toHex().replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  },
};
