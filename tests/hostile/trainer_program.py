"""A trainer as a process of its own, so that its processor time and files can be measured.

Reads lines: ``epoch`` runs one and prints a line of JSON about it, ``quit`` ends it. The first line of its output is
where it listens. Arguments: the epoch's length, the limit on open files (0: as it is), and the key file ('': none).
"""

from __future__ import annotations

import json
import logging
import resource
import socket
import sys
import time
from typing import Any

from enqueuer import SequenceEnqueuer, SequenceSpec


def main() -> None:
    length, files_limit, key_file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] or None
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    if files_limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files_limit, files_limit))
    spec = SequenceSpec("tests.hostile.sequences:Sleep20", count=length)
    with SequenceEnqueuer(spec, use_multiprocessing=True, bind="tcp://127.0.0.1:*", key_file=key_file) as enqueuer:
        enqueuer.start(workers=0, max_queue_size=16)
        session = enqueuer._session
        assert session is not None
        (pair,) = session.io._channels.values()
        say(control=pair.sockets.control_endpoint, data=pair.sockets.data_endpoint)
        for line in sys.stdin:
            if line.strip() == "quit":
                return
            run_epoch(enqueuer, length)


def run_epoch(enqueuer: SequenceEnqueuer, length: int) -> None:
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    heads = [(len(set(batch.tolist())), int(batch[0])) for batch in enqueuer.epoch()]
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    stats = enqueuer.stats()
    say(
        seconds=seconds,
        cpu_seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        exact=heads == [(1, index) for index in range(length)],
        malformed=stats.malformed_count,
        ignored=stats.ignored_count,
        offenders=[[offender.name, offender.offences_count, offender.cut_off] for offender in stats.offenders],
        honest_workers=sum(worker.host == socket.gethostname() for worker in stats.workers),
    )


def say(**values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
