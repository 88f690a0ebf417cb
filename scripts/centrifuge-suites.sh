#!/usr/bin/env bash
# The official suites of centrifuge-js and centrifuge-python against this server, on its embedded database at localhost:8000, where they
# look for one. CHECKOUT_JS and CHECKOUT_PYTHON are working copies of https://github.com/centrifugal/centrifuge-js and centrifuge-python; one
# of them is enough. They are copied and run as they are; FANFARE_BIN names a program that is built already.
# What fails is held against the list in docs/migrate-from-centrifugo.md, and so is what passes.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

js=${CHECKOUT_JS:-}
python=${CHECKOUT_PYTHON:-}
if [ ! -f "${js:-.}/src/centrifuge.test.ts" ] && [ ! -f "${python:-.}/tests/test_client.py" ]; then
    echo "name a checkout: make centrifuge-suites CHECKOUT_JS=path CHECKOUT_PYTHON=path" >&2
    exit 2
fi

program=${FANFARE_BIN:-}
if [ -z "$program" ]; then
    cargo build --locked -p fanfare-server
    program="${CARGO_TARGET_DIR:-$root/target}/debug/fanfare"
fi
work="${CARGO_TARGET_DIR:-$root/target}/centrifuge-suites"
mkdir -p "$work"
server=
data=

stop() {
    [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server"; } || true
    [ -z "$data" ] || rm -rf "$data"
    server=
    data=
}
trap stop EXIT

start() { # configuration
    if (exec 3<>/dev/tcp/127.0.0.1/8000) 2>/dev/null; then
        echo "something listens on port 8000 already, where the suites look for their server" >&2
        exit 1
    fi
    data=$(mktemp -d)
    "$program" serve --config "$root/tests/suites/$1" --data "$data" >"$work/server.log" 2>&1 &
    server=$!
    until curl -fs -o "$work/ready" http://127.0.0.1:8000/health/ready; do
        kill -0 "$server" 2>/dev/null || { cat "$work/server.log" >&2; exit 1; }
        sleep 0.1
    done
}

copy() { # from, to
    mkdir -p "$2"
    tar -C "$1" --exclude=./node_modules --exclude=./.git -cf - . | tar -C "$2" -xf -
}

failed=0
if [ -n "$js" ]; then
    copy "$js" "$work/js"
    cd "$work/js"
    # What its lock file says; npm alone does not read it.
    npm exec --yes yarn@1.22.22 -- install --frozen-lockfile --ignore-scripts --non-interactive --silent
    start centrifuge-js.toml
    rm -f "$work"/js-*.json "$work/js.log"
    for file in src/*.test.ts; do
        case "$file" in src/map.* | src/shared_poll.* | *.bench.*) continue ;; esac
        # One at a time: what waits in one for something that never comes is not to fail in the next.
        NODE_OPTIONS=--unhandled-rejections=warn npx jest --forceExit --silent --json \
            --outputFile="$work/js-$(basename "$file" .test.ts).json" --testMatch "**/$(basename "$file")" >>"$work/js.log" 2>&1 || true
    done
    stop
    cd "$root"
    node scripts/centrifuge-suites.mjs js "$work"/js-*.json || failed=1
fi
if [ -n "$python" ]; then
    copy "$python" "$work/python"
    [ -x "$work/venv/bin/pip" ] || python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check \
        'websockets>=14,<16' 'protobuf>=4.23.4,<7' 'pytest>=8,<9' 'pytest-timeout>=2,<3'
    start centrifuge-python.toml
    cd "$work/python"
    # Its own runner waits for ever for what does not come.
    "$work/venv/bin/python" -m pytest -q -rA --tb=short --timeout 20 -p no:cacheprovider \
        -o log_level=ERROR -o python_functions=none tests >"$work/python.log" 2>&1 || true
    stop
    cd "$root"
    node scripts/centrifuge-suites.mjs python "$work/python.log" || failed=1
fi
echo "what they said is in $work"
exit "$failed"
