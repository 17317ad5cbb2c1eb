# Every target that needs the environment sets it up first; when nothing changed that takes no time.
# Extra arguments: make chat ARGS="--model openai:gpt-4o-mini", make test ARGS="-k journal".

ARGS ?=
PATHS := corral tests bench examples

# Without bytecode every start of Corral costs about three times as much.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONHOME
unexport PYTHONPATH
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help setup chat demo test check fmt lock bench clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | while IFS='	' read -r name text; do \
		printf '  make %-8s %s\n' "$$name" "$$text"; done

setup: ## Make or update .venv from requirements.lock, and what it needs
	@bash scripts/setup.sh

chat: setup ## Open the REPL on the bundled local model
	@.venv/bin/corral chat $(ARGS)

demo: setup ## Run the main job on the input in examples/, without a keyboard
	@.venv/bin/python examples/demo.py $(ARGS)

test: setup ## Run the everyday tests; ARGS="-m ''" adds the slow ones, as CI does
	@bash scripts/test.sh $(ARGS)

check: setup ## Run the formatter's check, the linters, the type checkers and the house tests
	.venv/bin/ruff format --check $(PATHS)
	.venv/bin/ruff check $(PATHS)
	.venv/bin/lint-imports
	.venv/bin/mypy
	.venv/bin/pyright
	.venv/bin/python -m pytest -q tests/house --ignore=tests/house/test_docs.py

fmt: setup ## Format the code and fix what the linter can fix
	.venv/bin/ruff format $(PATHS)
	.venv/bin/ruff check --fix $(PATHS)

lock: ## Pin the newest versions that pyproject.toml allows in requirements.lock
	@bash scripts/lock.sh

bench: setup ## Run the benchmarks in bench/ (minutes; leave the machine alone meanwhile)
	@set -e; for file in bench/[a-z]*.py; do echo "== $$file"; .venv/bin/python "$$file" $(ARGS); done

clean: ## Remove the environment, the caches and everything else that was made here
	rm -rf .venv .uv .cache dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find $(PATHS) -type d -name __pycache__ -prune -exec rm -rf {} +
