# The habits, one short command each. `make venv` first; everything runs in .venv.
PYTHON := .venv/bin/python

.PHONY: venv test core simulate lint chaos soak recovery bench steady compare ci

venv:
	python3 -m venv .venv && .venv/bin/pip install -q -e '.[demo,test,lint]'

test:
	$(PYTHON) -m pytest

core:
	$(PYTHON) -m pytest tests/core --cov=enqueuer.core --cov-report=term-missing

simulate:
	$(PYTHON) -m tests.simulation.run --schedules $(or $(SCHEDULES),20000)

lint:
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

chaos:
	$(PYTHON) -m pytest tests/chaos

soak:
	$(PYTHON) -m tests.chaos.soak --minutes $(or $(MINUTES),30)

# On an otherwise idle machine.
recovery:
	rm -f tests/chaos/recovery.json
	ENQUEUER_RECORD_GAPS=tests/chaos/recovery.json $(PYTHON) -m pytest tests/chaos
	$(PYTHON) -m tests.support.failure_table

bench:
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

# A million small batches and twenty thousand large ones: some minutes.
steady:
	$(PYTHON) -m tests.benchmarks.steady_memory

# More than an hour, and a gigabyte of other people's packages.
compare:
	.venv/bin/pip install -q -e '.[comparison]'
	$(PYTHON) -m tests.benchmarks.comparison

ci:
	.ci/run
