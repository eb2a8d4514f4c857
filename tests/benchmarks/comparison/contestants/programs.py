"""Starting and ending the programs of contestants that bring no worker processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.support.remote import REPOSITORY, environment


@contextmanager
def running(module: str, argument_lists: Sequence[Sequence[str]], pass_fds: Sequence[int] = ()) -> Iterator[None]:
    """A `python -m` of ``module`` (below this package) for each list of arguments, ended with the block."""
    command = [sys.executable, "-m", f"{__package__}.{module}"]
    processes = [
        subprocess.Popen([*command, *arguments], cwd=REPOSITORY, env=environment(), pass_fds=pass_fds)
        for arguments in argument_lists
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
