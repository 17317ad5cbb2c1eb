#!/usr/bin/env bash
# The tests, on two workers; arguments go to pytest. With RETRY_ALONE=1, as in CI, what failed is
# run once more, one test at a time: thousands of tests that wait for real processes share two
# cores there. A test that fails alone too has found a defect; what passes stays named above.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# With the slow tests go those with other people's MCP clients and servers.
if [[ " $* " == *" -m "* ]] && ! bash scripts/interop.sh; then
    echo "warning: other people's MCP tools could not be installed; their tests are skipped" >&2
fi

# `make check` has measured the code already.
ELSEWHERE=(--ignore=tests/house/test_limits.py)

FAILED=1 # pytest's exit status when tests failed; any other is no reason to try again

.venv/bin/python -m pytest -n 2 --dist loadfile "${ELSEWHERE[@]}" "$@"
status=$?
if [ "$status" = "$FAILED" ] && [ "${RETRY_ALONE:-}" = 1 ]; then
    echo "== the tests that failed, once more and alone"
    .venv/bin/python -m pytest -n 0 "${ELSEWHERE[@]}" "$@" --last-failed --last-failed-no-failures none
    status=$?
fi
exit "$status"
