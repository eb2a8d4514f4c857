# The habits, one short command each: `make help` lists them. `make venv` first; everything runs in .venv.
PYTHON := .venv/bin/python
# The guide's tools have many dependencies, so they have an environment of their own.
DOCS := .venv/docs

.DEFAULT_GOAL := help
.PHONY: help venv test core simulate lint fix docs docs-serve demo chaos soak recovery bench steady compare slices ci

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: ## make .venv with the library, its tests' requirements and the linters
	python3 -m venv .venv && .venv/bin/pip install -q 'pip>=25.1' && .venv/bin/pip install -q -e . --group test --group lint

test: ## run all tests, in parallel
	$(PYTHON) -m pytest -n auto --max-worker-restart 0

core: ## run the core's tests, with coverage
	$(PYTHON) -m pytest tests/core --cov=enqueuer.core --cov-report=term-missing

simulate: ## run SCHEDULES=20000 schedules of faults on the simulated cluster
	$(PYTHON) -m tests.simulation.run --schedules $(or $(SCHEDULES),20000)

lint: ## check style and types
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

fix: ## format the code, and mend what the linter can mend
	.venv/bin/ruff check --fix . && .venv/bin/ruff format .

$(DOCS)/installed: pyproject.toml
	python3 -m venv $(DOCS) && $(DOCS)/bin/pip install -q 'pip>=25.1' && $(DOCS)/bin/pip install -q -e . --group docs
	touch $@

docs: $(DOCS)/installed ## build the guide into build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet -f docs/mkdocs.yml

docs-serve: $(DOCS)/installed ## show the guide at http://127.0.0.1:8000 and follow changes
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs serve -f docs/mkdocs.yml

demo: ## train the demo, with OPTIONS="--workers 4"
	sh examples/demo.sh $(OPTIONS)

chaos: ## run the tests with real faults
	$(PYTHON) -m pytest tests/chaos

soak: ## inject a fault each second for MINUTES=30
	$(PYTHON) -m tests.chaos.soak --minutes $(or $(MINUTES),30)

recovery: ## measure the gaps in the guide's table of failures again (on an idle machine)
	rm -f tests/chaos/recovery.json
	ENQUEUER_RECORD_GAPS=tests/chaos/recovery.json $(PYTHON) -m pytest tests/chaos
	$(PYTHON) -m tests.support.failure_table

bench: ## run the benchmarks (on an idle machine)
	$(PYTHON) -m tests.benchmarks.first_batch
	$(PYTHON) -m tests.benchmarks.small_batches
	$(PYTHON) -m tests.benchmarks.scheduling threads
	$(PYTHON) -m tests.benchmarks.scheduling processes
	$(PYTHON) -m tests.benchmarks.hedging
	$(PYTHON) -m tests.benchmarks.large_batches
	$(PYTHON) -m tests.benchmarks.core_throughput
	$(PYTHON) -m tests.benchmarks.coordinator_cost
	$(PYTHON) -m tests.benchmarks.peak_memory
	$(PYTHON) -m tests.benchmarks.encryption
	$(PYTHON) -m tests.benchmarks.frameworks

steady: ## watch memory over a million small batches and twenty thousand large ones: some minutes
	$(PYTHON) -m tests.benchmarks.steady_memory

compare: ## run the comparison with other libraries: more than an hour, a gigabyte of packages
	.venv/bin/pip install -q -e . --group comparison
	$(PYTHON) -m tests.benchmarks.comparison

slices: ## run the kinds that keep cores busy beside bare processes (on an idle machine: a few minutes)
	$(PYTHON) -m tests.benchmarks.slices

ci: ## run everything that must pass before a merge
	.ci/run
