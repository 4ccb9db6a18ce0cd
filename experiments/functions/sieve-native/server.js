// The baseline of the tinyFaaS thesis (§4.2): the sieve behind a CoAP server of the npm package `coap`
// (node-coap), without a platform.
//
//   NODE_PATH=target/tools/node/node_modules HOST=127.0.0.1 PORT=5683 node server.js
//
// It answers every path. `scripts/install-tools.sh test` installs the package there.

const coap = require("coap");
const sieve = require("../sieve-node/handler.js");

const host = process.env.HOST || "127.0.0.1";
const server = coap.createServer({ type: host.includes(":") ? "udp6" : "udp4" }, (req, res) => {
  sieve(req, { send: (line) => res.end(line) });
});
server.on("error", (error) => {
  console.error(error);
  process.exit(1);
});
server.listen(Number(process.env.PORT || 5683), host, () => {
  const { address, port } = server._sock.address();
  console.log(`coap coap://${address.includes(":") ? `[${address}]` : address}:${port}`);
});
process.on("SIGTERM", () => process.exit(0));
