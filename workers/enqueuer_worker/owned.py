"""A remote worker program that lives as long as its owner: the process that started it and holds its stdin.

The first line on stdin is a JSON object with

    arguments    those of `run_worker`
    token        the text of a worker's token, which no other process sees here; '' for none
    sys_path     where the user's modules are found

Everything else is as with ``enqueuer worker``: SIGTERM drains. At the end of stdin the owner is dead: all ends at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from enqueuer.security.curve import TOKEN_VARIABLE
from enqueuer_worker.commands import CommandReader, take_stdin
from enqueuer_worker.run import run_worker

_CHUNK = 4096


def main() -> None:
    """Serve trainers until SIGTERM, or the owner's end."""
    # The mask is inherited; Ray blocks SIGINT in all of its processes.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    stdin = take_stdin()
    try:
        config = json.loads(CommandReader(stdin).first_line())
    except EOFError as error:
        sys.exit(str(error))
    if config["token"]:
        os.environ[TOKEN_VARIABLE] = config["token"]  # `run_worker` takes it out again
    sys.path[:] = config["sys_path"]
    threading.Thread(target=_end_with_owner, args=[stdin], name="owner", daemon=True).start()
    sys.exit(run_worker(**config["arguments"]))


def _end_with_owner(stdin: int) -> None:
    while os.read(stdin, _CHUNK):
        pass
    # The second signal stops at once. Two numbers, since two signals of one number may become one.
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main()
