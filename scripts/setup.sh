#!/usr/bin/env bash
# Makes .venv exactly what requirements.lock says, with Corral itself in it, and sees that a compiler and
# bubblewrap are there. Does nothing when nothing changed. Safe to interrupt and to start twice at once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/common.sh
. scripts/common.sh

readonly stamp=.venv/.corral-setup # what the environment was made from; written last
readonly unfinished=.uv/unfinished # there while .venv is being changed

wanted() { # the folder counts: scripts in .venv name it
    { pwd -P && sha256sum requirements.lock pyproject.toml scripts/common.sh scripts/setup.sh; } | sha256sum
}

is_done() {
    [ -x .venv/bin/python ] && [ ! -e "$unfinished" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(wanted)" ]
}

llama_cpp_is_built() {
    local version
    version=$(sed -n 's/^llama-cpp-python==\([^ ]*\).*/\1/p' requirements.lock)
    compgen -G ".venv/lib/python3*/site-packages/llama_cpp_python-$version.dist-info" >/dev/null
}

need_compiler() {
    if command -v cc >/dev/null && command -v c++ >/dev/null; then return; fi
    if can_install && apt_install build-essential; then return; fi
    die "a C and C++ compiler is missing; llama.cpp is built from source" \
        "Debian, Ubuntu: sudo apt-get install build-essential   Fedora: sudo dnf install gcc-c++   Then run make again."
}

need_bubblewrap() { # the lock brings one as well, so that no root is needed
    if command -v bwrap >/dev/null; then return; fi
    if can_install && apt_install bubblewrap; then return; fi
    if [ -x .venv/bin/bwrap ] || compgen -G ".venv/lib/python3*/site-packages/bubblewrap*" >/dev/null; then return; fi
    say "warning: bubblewrap is missing, and Corral runs no tool server without it"
    say "  Debian, Ubuntu: sudo apt-get install bubblewrap   Fedora: sudo dnf install bubblewrap"
}

make_venv() { # uv, python; a foreign environment is kept and brought into line, a half-made one is not
    if [ -e "$unfinished" ] || ! .venv/bin/python -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        : >"$unfinished"
        "$1" venv --quiet --clear --no-project --python "$2" .venv
    fi
    : >"$unfinished"
    rm -f "$stamp"
}

install_all() { # uv
    "$1" pip sync --python .venv/bin/python --require-hashes --compile-bytecode requirements.lock
    "$1" pip install --quiet --python .venv/bin/python --no-deps --editable .
    .venv/bin/python -m compileall -q corral
}

main() {
    local python uv
    if is_done; then return; fi
    mkdir -p .uv
    exec 9>.uv/lock
    if command -v flock >/dev/null && ! flock --nonblock 9; then
        say "another set-up is running here; waiting for it"
        flock 9
    fi
    if is_done; then return; fi
    use_writable_cache
    python=$(find_python)
    uv=$(find_uv "$python")
    make_venv "$uv" "$python"
    if ! llama_cpp_is_built; then
        need_compiler
        say "llama.cpp is built from source unless uv's cache holds it: about 7 minutes on two cores, once"
    fi
    start_heartbeat "$python"
    install_all "$uv"
    need_bubblewrap
    wanted >"$stamp.new" && mv "$stamp.new" "$stamp"
    rm -f "$unfinished"
    say "done: .venv holds Corral and everything that it needs"
}

main
