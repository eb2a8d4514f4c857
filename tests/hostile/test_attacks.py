"""An epoch that is attacked completes, exactly. How fast is `python -m tests.hostile.run`'s to say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.attacks import CASES
from tests.hostile.run import attack
from tests.hostile.target import WORKERS, Target

LENGTH = 100
OF_ANY_TRAINER = [name for name, case in CASES.items() if not case.files_limit]
OF_ANOTHER = [name for name in CASES if name not in OF_ANY_TRAINER]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One trainer for all: what one attack leaves behind, the next one finds."""
    with Target(tmp_path_factory.mktemp("target"), LENGTH) as target:
        yield target


def check(target: Target, name: str) -> None:
    result, sent_count = attack(target, CASES[name])
    assert result["exact"], result
    assert sent_count > 0
    assert result["honest_workers"] == WORKERS, result
    again = target.epoch()
    assert again["exact"] and again["honest_workers"] == WORKERS, again


@pytest.mark.proves("a peer sends nonsense")
@pytest.mark.parametrize("name", OF_ANY_TRAINER)
def test_an_attacked_epoch_completes_exactly(name: str, target: Target) -> None:
    check(target, name)


@pytest.mark.parametrize("name", OF_ANOTHER)
def test_a_trainer_that_may_open_few_files_outlives_idle_connections(name: str, tmp_path: Path) -> None:
    with Target(tmp_path, LENGTH, CASES[name].files_limit) as target:
        check(target, name)
