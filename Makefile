# Everything a newcomer or CI runs. Each target makes its own virtual environment first, from nothing.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CLIENTS := .venv-clients
TEST_PROCESSES ?= 2

.PHONY: help setup demo serve-demo clients lock-clients test check types layers pytest soak tenants-soak crash-soak streams-soak conformance fuzz test-gpu bench clean lock
help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## Virtual environment with everything pinned

$(STAMP): pyproject.toml constraints.txt Makefile
	PYTHON="$(PYTHON)" VENV="$(VENV)" bash .ci/install
	touch $(STAMP)

clients: $(CLIENTS)/.installed ## LangChain, LiteLLM and llm, each in an environment of its own, for tests/clients

$(CLIENTS)/.installed: $(STAMP) $(wildcard tests/clients/requirements/*.txt) .ci/clients
	PYTHON="$(PYTHON)" BIN="$(BIN)" CLIENTS="$(CLIENTS)" bash .ci/clients
	touch $@

lock-clients: $(STAMP) ## Rewrite what they pin, from tests/clients/requirements/*.in
	$(BIN)/python -m pip install -q "$$(grep -E '^uv==' constraints.txt)"
	for file in tests/clients/requirements/*.in; do $(BIN)/uv pip compile -q --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header $$file -o $${file%.in}.txt; done

demo: $(STAMP) ## Train six adapters, serve them, show the answers, leave the server running
	$(BIN)/loraplex demo

test: $(STAMP) check types layers pytest ## Everything CI runs

check: $(STAMP) ## Lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy strict
	$(BIN)/mypy | sed 's#^src/loraplex/##'

layers: $(STAMP) ## Imports point down only
	$(BIN)/lint-imports

pytest: $(STAMP) clients ## Tests on the CPU, SQLite and PostgreSQL; TEST_PROCESSES sets how many run side by side
	LORAPLEX_CLIENTS=required $(BIN)/pytest -q -n $(TEST_PROCESSES) --dist worksteal

soak: $(STAMP) ## 20,000 requests over 500 adapters while everything changes; LORAPLEX_SOAK_REQUESTS sets another number
	$(BIN)/pytest -q -s -m soak tests/e2e/test_soak.py tests/engine/structured

tenants-soak: $(STAMP) ## Limits of 200 requests at once over four workers; what one tenant's times tell another
	$(BIN)/pytest -q -s -m soak tests/e2e/test_limits.py tests/e2e/test_cache_isolation.py

crash-soak: $(STAMP) ## 200 kills of workers, engines and databases under load; LORAPLEX_CRASH_KILLS sets another number
	$(BIN)/pytest -q -s -m soak tests/e2e/test_crashes.py

streams-soak: $(STAMP) ## 1,000 streams whose readers leave or stop reading; LORAPLEX_SOAK_STREAMS sets another number
	$(BIN)/pytest -q -s -m soak tests/e2e/test_streams.py

conformance: $(STAMP) ## Write docs/openai.md anew from the table of the conformance tests
	PYTHONPATH=tests $(BIN)/python -m conformance.document

fuzz: $(STAMP) ## Requests made up from the OpenAPI document, many; LORAPLEX_FUZZ_EXAMPLES sets how many per operation
	LORAPLEX_FUZZ_EXAMPLES=$${LORAPLEX_FUZZ_EXAMPLES:-50} $(BIN)/pytest -q -s tests/platform/test_fuzz.py

test-gpu: $(STAMP) ## The same kernel and engine tests on an NVIDIA GPU, with those marked gpu
	$(BIN)/pytest -q tests/kernels tests/engine

bench: $(STAMP) ## CPU throughput against transformers + PEFT
	$(BIN)/python benchmarks/cpu_throughput.py

lock: ## Rewrite constraints.txt from the newest versions that fit together
	bash .ci/lock

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) $(CLIENTS) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist src/*.egg-info
