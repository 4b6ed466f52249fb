# What a person types. `make` alone lists it; the work is in .ci/.
.POSIX:
.NOTPARALLEL:
.PHONY: help run test test-slow lint registry registry-stop bench lock clean

BIN = .venv/bin

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

run: ## set everything up and let a model answer: no Docker, no account
	@sh .ci/venv embedded
	@$(BIN)/runner demo --run

test: lint ## set everything up, lint, and run all tests but the slow ones
	@sh .ci/test "not slow"

test-slow: ## the tests that take minutes
	@sh .ci/venv embedded,test,train
	@sh .ci/test slow

lint: ## ruff, mypy and hadolint
	@sh .ci/venv embedded,test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	find images tests -name Dockerfile -exec $(BIN)/hadolint {} +

registry: ## a registry on localhost:5000 to try things out (RUNNER_REGISTRY_PORT moves it)
	@base=$$(sh .ci/base-image) && RUNNER_BASE_IMAGE=$$base docker compose up --detach --wait registry
	@echo "The registry answers on localhost:$${RUNNER_REGISTRY_PORT:-5000}. Stop it with \`make registry-stop\`, which also deletes what was pushed to it."

registry-stop: ## stop that registry and delete what was pushed to it
	@docker compose down --volumes --rmi local

bench: ## measure this machine: prints figures, fails on nothing
	@sh .ci/venv embedded,test
	@for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

lock: ## resolve the dependencies anew into .ci/constraints.txt
	@sh .ci/lock

clean: ## remove what make put into this folder (images and the registry stay)
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find runner tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
