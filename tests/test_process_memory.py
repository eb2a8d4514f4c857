"""What a benchmark says of memory is what processes have."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.process_memory import Sampler, pss_bytes, tree_pss
from tests.support.waiting import wait_until

_SIZE = 64 * 1024 * 1024


def test_a_childs_pages_are_in_the_tree_and_gone_with_it() -> None:
    before = tree_pss(os.getpid())
    program = f"import sys; held = b'x' * {_SIZE}; print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdin is not None
        child.stdout.readline()
        assert _SIZE <= pss_bytes(child.pid) < 2 * _SIZE
        assert tree_pss(os.getpid()) >= before + _SIZE
        child.stdin.close()
    assert pss_bytes(child.pid) == 0


def test_a_sampler_returns_the_most_that_it_saw() -> None:
    values = [2.0, 5.0, 1.0]
    with Sampler(lambda: values.pop() if values else 3.0, 0.001) as sampler:
        wait_until(lambda: not values)
    assert sampler.peak == 5.0
