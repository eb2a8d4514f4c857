"""Settings of libraries that change batches are read from those that are imported."""

from __future__ import annotations

import decimal
import sys
import threading
import types

import numpy as np
import pytest

from enqueuer.compute.library_settings import NAMES, read_process_settings, read_thread_settings
from enqueuer.compute.settings_check import find_unlike, read_settings


def test_those_of_a_thread_are_those_of_the_thread_that_asks() -> None:
    found: list[dict[str, str]] = []
    with decimal.localcontext() as context, np.errstate(all="raise"):
        context.prec = 7
        here = read_thread_settings()
        other = threading.Thread(target=lambda: found.append(read_thread_settings()))
        other.start()
        other.join()
    assert here["decimal:getcontext().prec"] == "7"
    assert "raise" in here["numpy:geterr()"]
    assert found[0]["decimal:getcontext().prec"] != "7"


def test_a_library_that_is_not_imported_or_lacks_the_setting_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    assert not {name for name in read_process_settings() if name.startswith(("jax", "torch:"))}


def test_a_changed_one_is_found_with_the_value_here(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = types.ModuleType("torch")
    monkeypatch.setitem(sys.modules, "torch", fake)
    fake.get_default_dtype = lambda: "torch.float64"  # type: ignore[attr-defined]
    settings = read_settings(object(), read_thread_settings())
    assert set(settings) <= NAMES
    digests = {name: digest for name, (digest, _) in settings.items()}
    assert find_unlike(digests) == ()
    fake.get_default_dtype = lambda: "torch.float32"  # type: ignore[attr-defined]
    with decimal.localcontext() as context:
        context.prec = 5
        unlike = dict(find_unlike(digests))
    assert unlike == {"torch:get_default_dtype()": "torch.float32", "decimal:getcontext().prec": "5"}
