#!/usr/bin/env bash
# Licences of all dependencies, always; the rest of deny.toml when cargo-deny is installed, security advisories when their
# database can be reached as well. Says what it did not check.
set -euo pipefail
cd "$(dirname "$0")/.."

node scripts/licences.mjs

if ! command -v cargo-deny >/dev/null 2>&1; then
    echo "not checked: bans, sources and advisories (cargo-deny is not installed: cargo install --locked cargo-deny)"
    exit 0
fi
cargo deny --all-features check licenses bans sources
if timeout 120 cargo deny fetch db >/dev/null 2>&1; then
    cargo deny --all-features check advisories
else
    echo "not checked: advisories (their database cannot be reached from here)"
fi
