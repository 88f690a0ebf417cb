#!/bin/bash
# The official protocol suites of Socket.IO and Engine.IO, against the example that echoes.
# CHECKOUT is a working copy of https://github.com/socketio/socket.io.
set -euo pipefail
cd "$(dirname "$0")/.."

checkout=${CHECKOUT:-${1:-}}
if [ ! -d "$checkout/docs/socket.io-protocol" ]; then
    echo "name a checkout of github.com/socketio/socket.io: make socketio-suites CHECKOUT=path" >&2
    exit 2
fi

cargo build --locked -p fanfare-gateway --example socketio_echo
said=$(mktemp)
"${CARGO_TARGET_DIR:-target}/debug/examples/socketio_echo" >"$said" &
server=$!
trap 'kill "$server" 2>/dev/null || true; rm -f "$said"' EXIT

# It says so when it listens, and ends if it cannot.
until grep -q '^listening on ' "$said"; do
    kill -0 "$server" 2>/dev/null || exit 1
    sleep 0.1
done

for suite in engine.io-protocol/v4-test-suite socket.io-protocol/v5-test-suite; do
    echo "== $suite"
    npm ci --prefix "$checkout/docs/$suite" --no-audit --no-fund --silent
    npm test --prefix "$checkout/docs/$suite" --silent
done
