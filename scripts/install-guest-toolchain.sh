#!/bin/sh
# Installs what `cargo xtask guests` needs on Debian: a Rust compiler with the sources of its
# library, which is built for wasm32-unknown-unknown on first use, and a linker.
#
# Nobody needs this to run Mote or its tests: the built guests are in the repository.
# With rustup, `rustup target add wasm32-unknown-unknown` does the same and this does nothing.
set -eu

target=wasm32-unknown-unknown
packages="rustc-web rust-web-src lld"

sysroot=$(rustc --print sysroot 2>/dev/null || true)
if [ -n "$sysroot" ] && ls "$sysroot/lib/rustlib/$target/lib/"libcore-*.rlib >/dev/null 2>&1; then
    echo "$target is installed for $(rustc --version); nothing to do" >&2
    exit 0
fi

missing=
for package in $packages; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "all there: $packages" >&2
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "no apt-get here: run \`rustup target add $target\`" >&2
    exit 1
fi
sudo=
if [ "$(id -u)" -ne 0 ]; then
    sudo="sudo -n"
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# shellcheck disable=SC2086 # The packages are separate words.
$sudo apt-get install -y -qq --no-install-recommends $missing >&2
