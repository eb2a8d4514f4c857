"""``python -m enqueuer_worker``: the command ``enqueuer worker``."""

from enqueuer_worker.cli import worker

worker(prog_name="enqueuer worker")
