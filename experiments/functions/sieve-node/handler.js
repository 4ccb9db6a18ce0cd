// The primes up to 1000 by the sieve of Eratosthenes, on one line: the function that the tinyFaaS thesis
// measures (§4.2), with its signature. The same bytes as those of `examples/sieve`.
//
// This file is also the code of `sieve-node-container`, byte for byte, and of `sieve-native`.

const LIMIT = 1000;

module.exports = (req, res) => {
  const composite = new Uint8Array(LIMIT + 1);
  const primes = [];
  for (let number = 2; number <= LIMIT; number++) {
    if (composite[number]) continue;
    primes.push(number);
    // Smaller multiples were struck out by their smaller factor.
    for (let multiple = number * number; multiple <= LIMIT; multiple += number) composite[multiple] = 1;
  }
  res.send(primes.join(" ") + "\n");
};
