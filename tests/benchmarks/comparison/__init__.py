"""The comparison with other ways to bring batches to a trainer: `python -m tests.benchmarks.comparison`."""
