#!/bin/bash
# Plays the first five minutes with Mote and prints what a person sees, for the README.
# Usage: PATH=target/release:$PATH scripts/first-five-minutes.sh [LANGUAGE]
# With --write it puts the transcript into the README. Needs the language's compilers, curl and a CoAP client.
set -euo pipefail

repository=$(cd "$(dirname "$0")/.." && pwd)
write=
if [ "${1:-}" = --write ]; then write=1; shift; fi
language=${1:-rust}
coap=$(command -v coap-client || command -v coap-client-notls)

folder=$(mktemp -d)
session=
end() {
    if [ -n "$session" ]; then kill "$session" 2>/dev/null && wait "$session" || true; fi
    rm -rf "$folder"
}
trap end EXIT
cd "$folder"

# What a person types, and what comes of it.
type_and_run() { echo "\$ $1"; eval "$1" 2>&1; }

# Waits until the session has said something so many times.
heard() {
    for _ in $(seq 1200); do
        if [ "$(grep -c -- "$1" "$folder/session")" -ge "$2" ]; then return; fi
        kill -0 "$session" 2>/dev/null || { cat "$folder/session" >&2; exit 1; }
        sleep 0.1
    done
    echo "the session did not say '$1': $(cat "$folder/session")" >&2
    exit 1
}

# What the session has said since the last look.
seen=0
look() {
    tail -n "+$((seen + 1))" "$folder/session" | sed "s#$TMPDIR#/tmp#; s#$folder#~#; s#$HOME#~#"
    seen=$(wc -l < "$folder/session")
}

export NO_COLOR=1 TMPDIR="$folder/tmp"
mkdir "$TMPDIR"
play() {
    type_and_run "mote new --lang $language hello"
    type_and_run "cd hello"
    echo "\$ mote dev"
    mote dev > "$folder/session" 2>&1 &
    session=$!
    heard 'coap-client' 1
    look
    echo
    echo "# in another terminal"
    type_and_run "curl 'http://127.0.0.1:8000/hello?name=Ada'"
    type_and_run "coap-client -m get 'coap://127.0.0.1/hello?name=Ada'"
    source=$(grep -rl 'hello, ' --include='*.*' src main.* 2>/dev/null | head -1 || true)
    type_and_run "sed -i 's/hello, /good morning, /' $source"
    heard 'live: version' 1
    heard 'hello to' 2
    type_and_run "curl 'http://127.0.0.1:8000/hello?name=Ada'"
    heard 'hello to' 3
    echo
    echo "# in the first one, meanwhile"
    look
}
coap-client() { "$coap" "$@"; }
curl() { command curl -sS "$@"; }

if [ -z "$write" ]; then
    play
    exit
fi
play > "$folder/transcript"
python3 - "$repository/README.md" "$folder/transcript" <<'PYTHON'
import re, sys
page, transcript = (open(name).read() for name in sys.argv[1:])
begin, end = "<!-- not run: a transcript of scripts/first-five-minutes.sh -->\n```console\n", "\n```\n"
new = begin + transcript.strip("\n") + end
page, count = re.subn(re.escape(begin) + ".*?" + re.escape(end), lambda _: new, page, flags=re.S)
assert count == 1, "the README has no place for it"
open(sys.argv[1], "w").write(page)
PYTHON
