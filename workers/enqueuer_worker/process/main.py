"""One worker process, ``python -m enqueuer_worker.process.main``. Its supervisor starts it and writes its settings and
commands to its stdin.

The main thread computes, since many libraries expect to run there; a second one does I/O.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import gc
import io
import os
import platform
import signal
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

from enqueuer_worker.commands import CommandReader, take_stdin
from enqueuer_worker.supervisor.signals import take_no_notice

if TYPE_CHECKING:
    from enqueuer_worker.core.events import Identity
    from enqueuer_worker.settings import ChildSettings

# How long a thread may keep the GIL while another one wants it. Python's default is 5 ms: half a thousand small items.
_SWITCH_INTERVAL = 0.001


def main() -> None:
    """Serve until the coordinator or the supervisor ends this process; does not return."""
    commands = CommandReader(take_stdin())
    try:
        line = commands.first_line()
    except EOFError as error:
        sys.exit(str(error))
    # A terminal sends these to the whole process group; the supervisor decides what follows from them.
    take_no_notice((signal.SIGINT, signal.SIGTERM))
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        # This process may be killed at any time, and printed lines must not be lost in a buffer.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    serve(line, commands)


def serve(line: bytes, commands: CommandReader) -> None:
    """Serve with the settings in ``line``. Modules are imported in the order of their need."""
    gc.disable()  # modules stay for good: see below
    from enqueuer_worker.process.limits import die_with_parent, forget_hash_seed, limit_memory, take_over_paths
    from enqueuer_worker.settings import ChildSettings

    settings = ChildSettings.from_line(line)
    common = settings.common
    die_with_parent(settings.parent_pid)
    forget_hash_seed()
    if common.max_memory is not None:
        limit_memory(common.max_memory)

    from enqueuer.protocol.batch import Trust
    from enqueuer_worker.logs import set_up_logger
    from enqueuer_worker.process.batch_memory import BatchMemory
    from enqueuer_worker.process.io_loop import IoLoop
    from enqueuer_worker.process.outbox import Outbox, Waker
    from enqueuer_worker.process.shared import Shared
    from enqueuer_worker.process.tasks import TaskQueue
    from enqueuer_worker.running import STACK_SIGNAL, RunningLease, show_stack_when_asked

    identity = _identify(settings)
    logger = set_up_logger(settings.worker_id, common.log_level, common.log_json)
    shared = Shared(
        tasks=TaskQueue(RunningLease(settings.running_fd)),
        outbox=Outbox(Waker()),
        memory=BatchMemory(identity.incarnation, Trust(common.trust), common.lock_fd),
    )
    sys.setswitchinterval(_SWITCH_INTERVAL)
    if settings.running_fd is not None:
        show_stack_when_asked(settings.running_fd)
    io_loop = IoLoop(settings, identity, commands, shared, logger)
    # A new thread inherits blocked signals. The I/O thread keeps this one blocked: it is for the compute thread.
    signal.pthread_sigmask(signal.SIG_BLOCK, {STACK_SIGNAL})
    io_loop.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {STACK_SIGNAL})

    # The Hello is under way while the rest is imported.
    from enqueuer.compute.entropy import share_between_threads
    from enqueuer_worker.process.compute_loop import ComputeLoop
    from enqueuer_worker.process.user_programs import on_import, prepare_for_user_programs

    prepare_for_user_programs()

    if common.forward_logs:
        from enqueuer_worker.process.log_forwarding import forward_logs

        forward_logs(shared.outbox, common.log_level, common.log_json)
    if common.log_fd is not None:
        from enqueuer_worker.process.trainer_logs import log_to_trainer

        log_to_trainer(common.log_fd, common.trainer_logging)
    # Modules imported so far stay for good, so the garbage collector need not walk through them while batches are due.
    # (32 workers with batches of 20 ms on two cores: 97 % of the ideal rate without this, 98 % with it.) Nor before:
    # of 29 000 objects it would find 600 to be garbage, for an eighth of the processor time of this process's start.
    gc.freeze()
    gc.enable()
    share_between_threads()
    compute_loop = ComputeLoop(settings, identity.host, shared, io_loop.turn_taking)
    take_over_paths(common.sys_path)
    if common.trainer_interpreter:
        from enqueuer.compute.interpreter_settings import take_over

        take_over(common.trainer_interpreter, on_import)
    compute_loop.run()
    _exit(io_loop.exit_code)


def _identify(settings: ChildSettings) -> Identity:
    import numpy

    from enqueuer import __version__
    from enqueuer_worker.core.events import Identity

    return Identity(
        worker_id=settings.worker_id,
        incarnation=bytes.fromhex(settings.incarnation),
        supervisor=bytes.fromhex(settings.common.supervisor),
        child_number=settings.child_number,
        host=socket.gethostname(),
        pid=os.getpid(),
        numpy_version=numpy.__version__,
        enqueuer_version=__version__,
        secret=bytes.fromhex(settings.common.secret),
        python_version=platform.python_version(),
    )


def _exit(code: int) -> NoReturn:
    # Exit handlers, such as that of `multiprocessing`, which ends the user's pools. The I/O thread limits their time.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    # Without waiting for the user's threads, as the children of `multiprocessing` do.
    os._exit(code)


if __name__ == "__main__":
    main()
