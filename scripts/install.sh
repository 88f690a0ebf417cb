#!/usr/bin/env bash
# Installs what is missing from Debian's packages, and nothing that is there already.
#   scripts/install.sh build    what the build needs: a C compiler, pkg-config, make
#   scripts/install.sh test     what the tests start: PostgreSQL, Redis, Chromium, valgrind, Python
set -euo pipefail

packages=()

need() { # program package
    command -v "$1" >/dev/null 2>&1 || packages+=("$2")
}

for wanted in "$@"; do
    case "$wanted" in
    build)
        need cc build-essential
        need make build-essential
        need pkg-config pkg-config
        need node nodejs
        need npm npm
        ;;
    test)
        compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || need initdb postgresql
        need redis-server redis-server
        need valgrind valgrind
        python3 -c 'import ensurepip' >/dev/null 2>&1 || packages+=(python3 python3-venv)
        [ -n "${CHROMIUM:-}" ] || need chromium chromium
        ;;
    *)
        echo "scripts/install.sh: '$wanted' is neither 'build' nor 'test'" >&2
        exit 2
        ;;
    esac
done

if ! command -v cargo >/dev/null 2>&1; then
    echo "cargo is not installed: see https://rustup.rs" >&2
    exit 1
fi
if [ "${#packages[@]}" -eq 0 ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing, and there is no apt-get to install it with: ${packages[*]}" >&2
    exit 1
fi

root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "missing, and neither root nor sudo to install it with: apt-get install ${packages[*]}" >&2
        exit 1
    fi
    root=(sudo)
fi
echo "installing: ${packages[*]}"
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null
"${root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null
