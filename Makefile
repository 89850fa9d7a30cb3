# Common commands; each works in a fresh clone that has uv.

.DEFAULT_GOAL := help
.PHONY: help run test long lint format docs pictures ci full

help: ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: ## Open the dashboard
	uv run beray

test: ## Run the test suite
	uv run pytest

long: ## Run the long tests, and those that must run alone
	uv run pytest -m long
	uv run pytest -n 0 -m "soak or alone"

lint: ## Check style, types and import contracts
	uv run --group lint ruff check .
	uv run --group lint ruff format --check .
	uv run --group lint mypy
	uv run --group lint lint-imports

format: ## Format the code and fix what ruff can fix
	uv run --group lint ruff check --fix .
	uv run --group lint ruff format .

docs: ## Build the documentation site, for "beray docs"
	uv run --group docs mkdocs build --strict

pictures: ## Write the pictures of the documents, dark and light
	uv run python tools/docs/pictures.py

ci: ## Run the checks of CI
	.ci/run

full: ## Run all checks; takes about an hour
	.ci/full
