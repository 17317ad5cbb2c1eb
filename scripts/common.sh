# Shared by the scripts beside it: messages, a Python, and uv. Sourced with the repository's root as the
# working directory.

export UV_PYTHON_DOWNLOADS=never # only package registries are asked, never a download of interpreters
unset PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH VIRTUAL_ENV UV_SYSTEM_PYTHON

say() { printf 'setup: %s\n' "$*" >&2; }

die() { # message, hint
    printf 'setup: error: %s\n  %s\n' "$1" "$2" >&2
    exit 1
}

can_install() { # as root on Debian and its like
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null
}

apt_install() {
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    say "installing the system package $*"
    { "${apt[@]}" update && "${apt[@]}" install --yes --no-install-recommends "$@"; } >&2
}

find_python() { # prints the path of an interpreter that can run Corral
    local candidate found
    # 3.11 first: the lock was resolved for it.
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3.14 python3 /usr/bin/python3; do
        found=$("$candidate" -I -c '
import sys, ctypes, sqlite3, ssl
if sys.version_info < (3, 11): sys.exit(1)
print(sys.executable)' 2>/dev/null) && printf '%s\n' "$found" && return
    done
    die "no Python 3.11 or newer was found" \
        "Install one (Debian, Ubuntu: apt-get install python3 python3-venv), or set PYTHON=/path/to/python3."
}

install_uv() { # into .uv/, private to this checkout
    local fresh=.uv/new
    rm -rf "$fresh"
    say "installing uv into .uv/"
    if "$1" -m pip --version >/dev/null 2>&1; then
        "$1" -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps --target "$fresh" 'uv>=0.8' >&2
    elif "$1" -c 'import ensurepip' 2>/dev/null; then
        "$1" -m venv "$fresh" && "$fresh/bin/python" -m pip install --quiet --no-cache-dir 'uv>=0.8' >&2
    else
        die "uv is missing, and $1 has neither pip nor ensurepip to install it" \
            "Install uv, or pip (Debian, Ubuntu: apt-get install python3-pip)."
    fi
    # Moved only when it is whole, so that an interrupted install is never taken for uv.
    rm -rf .uv/uv && mv "$fresh" .uv/uv
}

find_uv() { # python; prints the path of uv
    local candidate
    for candidate in uv .uv/uv/bin/uv; do
        "$candidate" --version >/dev/null 2>&1 && command -v "$candidate" && return
    done
    install_uv "$1" && printf '%s\n' .uv/uv/bin/uv
}

start_heartbeat() { # python; a line every half minute where uv cannot draw its progress
    if [ -t 2 ]; then return; fi
    "$1" -I -c '
import os, sys, time
parent, start = os.getppid(), time.monotonic()
while True:
    for _ in range(60):
        time.sleep(0.5)
        if os.getppid() != parent:
            sys.exit()
    print(f"setup: still working ({(time.monotonic() - start) / 60:.1f} minutes)", file=sys.stderr)
' 9>&- &
    heartbeat=$!
    trap 'kill "$heartbeat" 2>/dev/null || true' EXIT
}

use_writable_cache() { # uv's own default, unless the home folder cannot be written
    local default=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/uv
    [ -n "${UV_CACHE_DIR:-}" ] && return
    if ! { mkdir -p "$default" && [ -w "$default" ]; } 2>/dev/null; then
        export UV_CACHE_DIR=$PWD/.cache/uv
    fi
}
