#!/usr/bin/env bash
# Installs what `fanfare bench peers` measures Fanfare beside, as far as the package managers have it. Whatever is missing in the end
# is listed as not made by the run, so nothing here is an error.
set -uo pipefail
cd "$(dirname "$0")/.."

# Built once; its folder is not removed by `cargo build`.
SOCKUDO_VERSION=5.2.0
target="$PWD/target/peers"

packages=()
command -v nats-server >/dev/null 2>&1 || packages+=(nats-server)
compgen -G '/usr/*/nginx/modules/ngx_nchan_module.so' >/dev/null || packages+=(nginx-light libnginx-mod-nchan)
if [ "${#packages[@]}" -gt 0 ]; then
    root=()
    [ "$(id -u)" -eq 0 ] || root=(sudo)
    echo "installing: ${packages[*]}"
    # Nobody asked for the services that come with them.
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null ||
        echo "scripts/peers.sh: could not be installed: ${packages[*]}" >&2
fi

npm ci --prefix bench/peers --no-audit --no-fund ||
    echo "scripts/peers.sh: the servers of Socket.IO could not be installed" >&2

if ! PATH="$target/bin:$PATH" command -v sockudo >/dev/null 2>&1; then
    cargo install sockudo --version "$SOCKUDO_VERSION" --locked --no-default-features --features local,redis \
        --root "$target" --target-dir "$target/build" ||
        echo "scripts/peers.sh: sockudo could not be built" >&2
fi
exit 0
