# Everything a newcomer or CI runs. Each target makes its own virtual environment first, from nothing.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CLIENTS := .venv-clients
TEST_PROCESSES ?= 2

.PHONY: help setup demo serve-demo web web-test browser pages screenshots readme-images clients lock-clients lock-web test check types layers pytest soak tenants-soak crash-soak streams-soak conformance fuzz test-gpu bench clean lock
help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## Virtual environment with everything pinned

$(STAMP): pyproject.toml constraints.txt Makefile
	PYTHON="$(PYTHON)" VENV="$(VENV)" bash .ci/install
	touch $(STAMP)

# What the dashboard is built from. Node comes from the machine, else from its package for Python.
WEB_SOURCES := $(shell find web/src -type f -not -name schema.d.ts) $(wildcard web/*.ts web/*.json web/*.html web/.npmrc)
NODE_PATH = PATH="$$(command -v npm >/dev/null || echo "$(CURDIR)/$(BIN):")$$PATH"

web: web/dist/index.html ## Build the dashboard, which the server then shows at /

web/node_modules/.installed: web/package-lock.json web/package.json web/.npmrc $(STAMP)
	command -v npm >/dev/null || $(BIN)/python -m pip install -q -r web/node.txt
	cd web && $(NODE_PATH) npm ci --no-audit --no-fund
	touch $@

web/dist/index.html: web/node_modules/.installed $(WEB_SOURCES)
	cd web && $(NODE_PATH) npm run types && $(NODE_PATH) npm run build

web-test: web/dist/index.html ## Lint, types and tests of the dashboard's scripts
	cd web && $(NODE_PATH) npm run check && $(NODE_PATH) npm test

screenshots: web/dist/index.html ## Images of every page, light and dark, in build/screenshots
	$(BIN)/pytest -q -m soak tests/web/test_screenshots.py

readme-images: web/dist/index.html browser ## The two images of the dashboard in the README, from the demo
	PYTHONPATH=tests $(BIN)/python tests/web/readme_images.py

browser: $(STAMP) ## Chromium for tests/web, if the machine has none
	BIN="$(BIN)" bash .ci/browser

clients: $(CLIENTS)/.installed ## LangChain, LiteLLM and llm, each in an environment of its own, for tests/clients

$(CLIENTS)/.installed: $(STAMP) $(wildcard tests/clients/requirements/*.txt) .ci/clients
	PYTHON="$(PYTHON)" BIN="$(BIN)" CLIENTS="$(CLIENTS)" bash .ci/clients
	touch $@

lock-web: ## Rewrite web/package-lock.json from web/package.json
	$(NODE_PATH) python3 .ci/lock-web

lock-clients: $(STAMP) ## Rewrite what they pin, from tests/clients/requirements/*.in
	$(BIN)/python -m pip install -q "$$(grep -E '^uv==' constraints.txt)"
	for file in tests/clients/requirements/*.in; do $(BIN)/uv pip compile -q --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header $$file -o $${file%.in}.txt; done

demo: $(STAMP) web/dist/index.html ## Train six adapters, serve them, show the answers, leave the server running
	$(BIN)/loraplex demo

test: $(STAMP) check types layers web-test pytest pages ## Everything CI runs

check: $(STAMP) ## Lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy strict
	$(BIN)/mypy | sed 's#^src/loraplex/##'

layers: $(STAMP) ## Imports point down only
	$(BIN)/lint-imports

pytest: $(STAMP) clients ## Tests on the CPU, SQLite and PostgreSQL; TEST_PROCESSES sets how many run side by side
	LORAPLEX_CLIENTS=required $(BIN)/pytest -q -n $(TEST_PROCESSES) --dist worksteal --ignore tests/web

pages: web/dist/index.html browser ## Tests of the dashboard in a real browser
	LORAPLEX_BROWSER=required $(BIN)/pytest -q tests/web

soak: $(STAMP) ## 20,000 requests over 500 adapters while everything changes; LORAPLEX_SOAK_REQUESTS sets another number
	$(BIN)/pytest -q -s -m soak tests/e2e/test_soak.py tests/engine/structured

tenants-soak: $(STAMP) ## Limits of 200 requests at once over four workers; what one tenant's times tell another
	$(BIN)/pytest -q -s -m soak tests/e2e/test_limits.py tests/e2e/test_cache_isolation.py

crash-soak: $(STAMP) ## 200 kills of workers, engines and databases under load, on each kind of database; LORAPLEX_CRASH_KILLS sets another number
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
	rm -rf $(VENV) $(CLIENTS) web/dist web/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist src/*.egg-info
