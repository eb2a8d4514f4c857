"""For all tests."""

from __future__ import annotations

from hypothesis import settings

# Each test has a deadline of its own; Hypothesis' fifth of a second for each example says more about the machine.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
