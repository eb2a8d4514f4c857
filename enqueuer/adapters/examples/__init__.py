"""Complete trainings, one a framework: `python -m enqueuer.adapters.examples.keras_digits`."""
