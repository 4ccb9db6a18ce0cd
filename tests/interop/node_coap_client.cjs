// Calls a node with the npm package `coap`, as a program that uses that library would.
//
//   node_coap_client.cjs METHOD URI [FILE]   sends the file's bytes and writes the body of the reply
//   node_coap_client.cjs observe URI         writes every value on a line of its own, until stopped
//
// The package is found through NODE_PATH. A reply that is no success ends it with exit code 1 and
// the response code on standard error.
const fs = require("fs");
const coap = require("coap");

// Longer than any reply that a test waits for.
const TIMEOUT_MS = 60_000;

const [method, uri, file] = process.argv.slice(2);
const { hostname, port, pathname, search } = new URL(uri);
const observe = method === "observe";

const request = coap.request({
  hostname,
  port,
  pathname,
  query: search.slice(1),
  method: observe ? "GET" : method.toUpperCase(),
  observe,
});
request.on("error", fail);
request.on("response", (response) => {
  if (!response.code.startsWith("2.")) {
    fail(`${response.code}: ${response.payload}`);
  } else if (observe) {
    // The first value and each notification come as one chunk.
    response.on("data", (value) => process.stdout.write(`${value}\n`));
    response.on("error", fail);
  } else {
    process.stdout.write(response.payload, () => process.exit(0));
  }
});
if (!observe) {
  setTimeout(() => fail("no reply"), TIMEOUT_MS);
}
// Without a block size the library sends one datagram, however large the body is.
const body = file ? fs.readFileSync(file) : Buffer.alloc(0);
if (body.length > 1024) {
  request.setOption("Block1", Buffer.from([0x06]));
}
request.end(body);

function fail(why) {
  fs.writeSync(2, `${why}\n`);
  process.exit(1);
}
