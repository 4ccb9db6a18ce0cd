#!/usr/bin/env bash
# The button and the lamp: starts a node in a temporary folder, deploys the examples, and plays a
# button (a CoAP client) that switches a lamp (another one, which only observes). Leaves nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

# Waits until a file holds a text; nothing here waits for a time to pass.
await() {
  local file=$1 text=$2 tries=0
  until grep -qF -- "$text" "$file" 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 200 ] || { cat "$file" >&2; fail "\`$text\` did not come within 20 s in $file"; }
    sleep 0.1
  done
}

say 'Build'
cargo build --release --locked -p mote
mote=${CARGO_TARGET_DIR:-target}/release/mote
coap=$(command -v coap-client-notls || command -v coap-client) || fail 'no coap-client'

folder=$(mktemp -d)
node='' lamp=''
stop() {
  [ -z "$lamp" ] || kill "$lamp" 2>/dev/null || true
  [ -z "$node" ] || kill "$node" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$folder"
}
trap stop EXIT

say 'A node, in a temporary folder, on free ports'
export MOTE_DATA_DIR=$folder/data
"$mote" up --http 127.0.0.1:0 --coap 127.0.0.1:0 --admin 127.0.0.1:0 >"$folder/node.out" 2>"$folder/node.log" &
node=$!
await "$folder/node.out" 'token '
cat "$folder/node.out"
http=$(awk '$1 == "http" { print $2 }' "$folder/node.out")
doors=$(awk '$1 == "coap" { print $2 }' "$folder/node.out")
admin=$(awk '$1 == "admin" { print $2 }' "$folder/node.out")

say 'The examples'
for example in hello echo sieve light; do
  run "$mote" deploy "examples/$example"
done

say 'A lamp observes the function `light`, over CoAP'
printf '\033[2m$ %s -m get -s 60 %s/light\033[0m\n' "$(basename "$coap")" "$doors"
stdbuf -oL "$coap" -m get -s 60 "$doors/light" >"$folder/lamp.out" 2>&1 &
lamp=$!
await "$folder/lamp.out" '{"light":"off"}'
echo "the lamp sees: $(tail -n 1 "$folder/lamp.out")"

say 'A button is pressed: another CoAP client posts `on`'
run "$coap" -m post -e on "$doors/light"
await "$folder/lamp.out" '{"light":"on"}'
echo "the lamp is told: $(grep -ao '{"light":"on"}' "$folder/lamp.out" | tail -n 1)"
say 'A web page sees the same'
run curl -sS -i "$http/light"
echo

say '`sieve` over HTTP and over CoAP: the primes up to 1,000'
run curl -sS -o "$folder/primes.http" -w 'HTTP %{http_code}, %{size_download} bytes\n' "$http/sieve"
printf '\033[2m$ %s -v 6 -m get %s/sieve\033[0m\n' "$(basename "$coap")" "$doors"
"$coap" -v 6 -m get "$doors/sieve" >"$folder/primes.coap" 2>&1
grep -ao 't:ACK c:2.05' "$folder/primes.coap" | head -n 1 | sed 's/.*c:/CoAP /'
cut -c1-60 "$folder/primes.http"
grep -aqF "$(cat "$folder/primes.http")" "$folder/primes.coap" || fail 'HTTP and CoAP gave different primes'

say 'What the node counted'
run "$mote" ls
curl -sS -H "Authorization: Bearer $(cat "$MOTE_DATA_DIR/token")" "$admin/metrics" >"$folder/metrics"
grep -E '^mote_(calls_total|published_total|function_observers)' "$folder/metrics"
grep -qF 'mote_calls_total{function="sieve",app="default",outcome="ok",door="coap"} 1' "$folder/metrics" ||
  fail 'the call of sieve over CoAP was not counted'

say 'Stop'
kill "$lamp"
wait "$lamp" 2>/dev/null || true
lamp=''
kill "$node"
wait "$node" || fail "the node did not stop cleanly: $(cat "$folder/node.log")"
node=''
echo 'the node stopped cleanly'
