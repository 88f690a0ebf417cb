#!/usr/bin/env bash
# Everything that must hold before a change is taken, one step after the other, and a summary. `make test` calls it.
# A failed step does not end the run, so that one run tells all; the exit code is that of the worst.
set -uo pipefail
cd "$(dirname "$0")/.."

if [ -n "${CI:-}" ]; then
    # Nothing is built twice there, so what makes a second build fast only costs time.
    export CARGO_INCREMENTAL="${CARGO_INCREMENTAL:-0}"
fi

logs=target/test-logs
mkdir -p "$logs"
summary=()
failed=0

step() { # name, command...
    local name="$1" started=$SECONDS status=0
    shift
    printf '\n=== %s: %s\n' "$name" "$*"
    "$@" </dev/null 2>&1 | tee "$logs/$name.log"
    status=${PIPESTATUS[0]}
    local word=ok
    if [ "$status" -ne 0 ]; then
        word=FAILED
        failed=1
    fi
    summary+=("$(printf '%-10s %-7s %5ds  %s' "$name" "$word" $((SECONDS - started)) "$(counts "$name")")")
    return "$status"
}

# How many tests a step ran, from the lines of cargo's and Node's test runners.
counts() { # name
    awk '
        /^test result:/ { passed += $4; failed += $6; seen = 1 }
        /^(# |ℹ )pass [0-9]+$/ { passed += $3; seen = 1 }
        /^(# |ℹ )fail [0-9]+$/ { failed += $3; seen = 1 }
        END { if (seen) printf "%d passed, %d failed", passed, failed }
    ' "$logs/$1.log"
}

report() {
    printf '\n=== summary\n'
    printf '%s\n' "${summary[@]}"
    if [ "$failed" -ne 0 ]; then
        echo "FAILED; the output of each step is in $logs"
    else
        echo "all is well"
    fi
    exit "$failed"
}

doc() {
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
}

browser_packages() {
    # playwright-core would otherwise be free to fetch a browser of its own; Debian's is used.
    PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --prefix tests/browser --no-audit --no-fund
}

# Without these nothing else can be judged.
step install ./scripts/install.sh build test || report
step web make --no-print-directory web || report
step build cargo build --workspace --all-targets --locked || report
# By itself: together with the others, its feature would be on in the program that everything else tests.
step sabotaged cargo build -p fanfare-server --features sabotage --bin fanfare-sabotaged --locked || report
step packages browser_packages || report
step python make --no-print-directory python-packages || report

# A minute of it, beside all that follows, on what that leaves of the machine.
rm -f "$logs/fuzz-run.status"
{
    status=0
    nice -n 19 "${CARGO_TARGET_DIR:-target}/debug/fanfare-fuzz" --seconds 60 >"$logs/fuzz-run.log" 2>&1 || status=$?
    echo "$status" >"$logs/fuzz-run.status"
} &
fuzzed() {
    until [ -s "$logs/fuzz-run.status" ]; do sleep 1; done
    cat "$logs/fuzz-run.log"
    return "$(cat "$logs/fuzz-run.status")"
}

step format cargo fmt --all --check
step clippy cargo clippy --workspace --all-targets --locked -- -D warnings
step doc doc
step deny ./scripts/deny.sh
step web-tests npm test --prefix web
# All crates in one call: cargo then builds every dependency once, with one set of features.
step tests cargo test --workspace --locked --no-fail-fast
# Optimised, so with a build of its own: of engine and wire only.
step instructions cargo run --profile counted -p fanfare-instructions --locked
step fuzz fuzzed
report
