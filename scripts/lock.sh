#!/usr/bin/env bash
# Writes requirements.lock anew from pyproject.toml. The lock names versions and hashes, no registry.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/common.sh
. scripts/common.sh

mkdir -p .uv
use_writable_cache
uv=$(find_uv "$(find_python)")
"$uv" pip compile pyproject.toml --group dev --upgrade --generate-hashes --no-emit-index-url --no-annotate \
    --no-header --quiet --python-version 3.11 -o requirements.lock "$@"
say "requirements.lock is written; the next make installs it"
