// Our promises do what those of the language do, in the same order.

import assert from "node:assert/strict";
import { test } from "node:test";

import { abandon, awaiting, drain, enqueue } from "../lib/loop.js";
import { Promise as Ours, settle, unheardReasons } from "../lib/promise.js";

const Native = globalThis.Promise;

/** Programs that write down what happens; each is run with our promises and with the language's. */
const PROGRAMS = {
  order(P, say) {
    say("begin");
    P.resolve(1).then((n) => say(`first ${n}`)).then(() => say("third"));
    P.resolve(2).then((n) => say(`second ${n}`));
    say("end");
  },
  thenables(P, say) {
    const thenable = { then: (resolve) => (say("asked"), resolve("thenable")) };
    P.resolve(thenable).then(say);
    new P((resolve) => resolve(P.resolve("inner"))).then(say);
    P.resolve("plain").then(() => P.resolve("returned")).then(say);
    new P((resolve) => resolve({ get then() { throw new Error("no then") } })).catch((error) => say(error.message));
    new P((resolve) => resolve({ then(_, reject) { reject("refused"); throw new Error("too late") } })).catch(say);
  },
  errors(P, say) {
    new P(() => { throw new Error("thrown") }).catch((error) => say(error.message));
    P.reject(new Error("rejected")).then(() => say("never"), (error) => say(error.message)).then(() => say("went on"));
    P.resolve().then(() => { throw new Error("later") }).then(() => say("never")).catch((error) => say(error.message));
    const self = new P((resolve) => queue(() => resolve(self)));
    const queue = (act) => P.resolve().then(act);
    self.catch((error) => say(error.constructor.name));
  },
  once(P, say) {
    new P((resolve, reject) => { resolve(1); reject(2); resolve(3); throw new Error("four") }).then(say);
  },
  finally(P, say) {
    P.resolve("value").finally(() => "ignored").then(say);
    P.reject("reason").finally(() => say("cleaned")).catch(say);
    P.resolve("value").finally(() => { throw "instead" }).catch(say);
    P.resolve("value").finally("no function").then(say);
  },
  all(P, say) {
    P.all([P.resolve(1), 2, new P((resolve) => P.resolve().then(() => resolve(3)))]).then((all) => say(all.join()));
    P.all([P.reject("a"), P.reject("b")]).catch(say);
    P.all([]).then((all) => say(`none ${all.length}`));
    P.allSettled([1, P.reject("x")]).then((all) => say(JSON.stringify(all)));
    P.race([new P(() => {}), P.resolve("fast")]).then(say);
    P.any([P.reject("x"), P.resolve("good")]).then(say);
    P.any([P.reject("x"), P.reject("y")]).catch((error) => say(`${error.name} ${error.errors.join()}`));
    P.any([]).catch((error) => say(`${error.name} ${error.errors.length}`));
  },
};

for (const [name, program] of Object.entries(PROGRAMS)) {
  test(`${name} is as in the language`, async () => {
    const ours = [];
    program(Ours, (said) => ours.push(said));
    drain();
    const native = [];
    program(Native, (said) => native.push(said));
    await new Native((resolve) => setTimeout(resolve, 0));
    assert.deepEqual(ours, native);
    assert.ok(native.length > 0);
    unheardReasons();
  });
}

test("a promise is settled by what is waited for", () => {
  const waited = [];
  const call = (name) => {
    const { promise, resolve } = Ours.withResolvers();
    awaiting(() => (waited.push(name), resolve(name)), () => waited.push(`dropped ${name}`));
    return promise;
  };
  const both = Ours.all([call("one"), call("two")]).then((names) => names.join(" "));
  call("three");
  assert.equal(settle(both), "one two");
  abandon();
  assert.deepEqual(waited, ["one", "two", "dropped three"]);
  assert.equal(settle("no promise"), "no promise");
  assert.throws(() => settle(Ours.reject(new Error("why"))), /why/);
  assert.throws(() => settle(new Ours(() => {})), /nothing is left to wait for/);
});

test("jobs that are left are not run by the next call", () => {
  let ran = false;
  enqueue(() => (ran = true));
  abandon();
  drain();
  assert.equal(ran, false);
});

test("reasons that nobody hears are known", () => {
  Ours.reject("lost");
  Ours.reject("heard").catch(() => {});
  const later = Ours.reject("heard later");
  later.then(undefined, () => {});
  drain();
  assert.deepEqual(unheardReasons(), ["lost"]);
  assert.equal(unheardReasons(), undefined);
});

test("a promise is no plain function and needs one", () => {
  assert.throws(() => new Ours(), TypeError);
  assert.equal(Object.prototype.toString.call(Ours.resolve()), "[object Promise]");
  assert.equal(settle(Ours.try((a, b) => a + b, 1, 2)), 3);
});

/** What `async` functions are, as the bundler writes them with the language's promises. */
function nativeRun(self, given, generator) {
  return new Native((resolve, reject) => {
    const running = generator.apply(self, given);
    const step = (act) => {
      try {
        const { done, value } = act();
        if (done) {
          resolve(value);
        } else {
          Native.resolve(value).then(
            (result) => step(() => running.next(result)),
            (reason) => step(() => running.throw(reason)),
          );
        }
      } catch (error) {
        reject(error);
      }
    };
    step(() => running.next());
  });
}

/** As above, with `run` for `async`. */
function functions(P, run, say) {
  run({ name: "self" }, ["given"], function* (given) {
    say(`${this.name} ${given}`);
  }).then((value) => say(`nothing is ${value}`));
  run(null, [], function* () {
    say("begun");
    say(yield 1);
    say(yield P.resolve("two"));
    say(yield { then: (resolve) => resolve("a thenable") });
    try {
      yield P.reject("refused");
    } catch (reason) {
      say(`caught ${reason}`);
    }
    return P.resolve("returned");
  }).then(say);
  run(null, [], function* () {
    throw new Error("at once");
  }).catch((error) => say(error.message));
  run(null, [], function* () {
    yield 1;
    throw new Error("later");
  }).catch((error) => say(error.message));
  P.resolve("meanwhile").then(say).then(() => say("and after"));
}

test("async functions are as in the language", async () => {
  const ours = [];
  functions(Ours, (...given) => Ours.run(...given), (said) => ours.push(said));
  drain();
  const native = [];
  functions(Native, nativeRun, (said) => native.push(said));
  await new Native((resolve) => setTimeout(resolve, 10));
  assert.deepEqual(ours, native);
  assert.ok(ours.includes("caught refused") && ours.includes("returned"));
});
