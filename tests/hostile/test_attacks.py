"""An attacked epoch completes exactly. `python -m tests.hostile.run` measures how fast."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.hostile.attacks import CASES, Case
from tests.hostile.run import attack
from tests.hostile.target import WORKERS, Target

LENGTH = 100


@pytest.fixture(scope="module")
def target_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Case], Target]]:
    """One trainer for all cases of one kind, so that each attack meets the remains of the one before."""
    made: dict[tuple[int, bool], Target] = {}
    with ExitStack() as stack:

        def get(case: Case) -> Target:
            kind = (case.files_limit, case.keyed)
            if kind not in made:
                made[kind] = stack.enter_context(case.target(tmp_path_factory.mktemp("target"), LENGTH))
                made[kind].epoch()  # what is attacked is running
            return made[kind]

        yield get


@pytest.mark.proves("a peer sends nonsense")
@pytest.mark.parametrize("name", CASES)
def test_an_attacked_epoch_completes_exactly(name: str, target_of: Callable[[Case], Target]) -> None:
    target = target_of(CASES[name])
    result, sent_count = attack(target, CASES[name])
    assert result["exact"], result
    assert sent_count > 0
    for _ in range(10):
        again = target.epoch()
        assert again["exact"], again
        if again["honest_workers"] == WORKERS:
            return
    # A worker whose connection was closed for want of descriptors comes back by itself.
    raise AssertionError(f"a worker that did nothing wrong is gone: {again}")
