"""The compute loop of a worker process, in its main thread: builds the Sequence and computes its items.

All user code runs here, one call at a time. No exception of user code ends the process: `SystemExit` and
`KeyboardInterrupt` are an item's error like any other, since signals are ignored and only user code can raise them.
"""

from __future__ import annotations

import logging
import time
from functools import cache

from enqueuer.compute.context import enter_worker
from enqueuer.compute.error_records import record_error
from enqueuer.protocol.batch import Trust
from enqueuer.protocol.compression import CODECS, Compressor, find_codec
from enqueuer.protocol.messages import Epoch, Welcome
from enqueuer_worker.core.events import Failed, Loaded, LoadFailed, Prepare
from enqueuer_worker.process.outbox import Followup
from enqueuer_worker.process.shared import Shared
from enqueuer_worker.process.tasks import Item
from enqueuer_worker.process.turn_taking import PATIENCE_SECONDS, TurnTaking
from enqueuer_worker.sequence.allowance import Allowance
from enqueuer_worker.sequence.batch_maker import BatchMaker
from enqueuer_worker.sequence.loader import SequenceLoader
from enqueuer_worker.settings import ChildSettings

logger = logging.getLogger(__name__)


class ComputeLoop:
    """Takes tasks until their queue is closed; runs the I/O loop itself if this saves a switch between threads."""

    def __init__(self, settings: ChildSettings, host: str, shared: Shared, turn_taking: TurnTaking) -> None:
        common = settings.common
        self._trust = Trust(common.trust)
        self._local = self._trust is Trust.LOCAL
        # Pickles are taken only from a coordinator with a proven key.
        pickle = common.allow_pickle and bool(common.token)
        self._allow_skew = common.allow_skew
        self._worker = (settings.worker_id, settings.child_number, host, common.processes)
        self._tasks = shared.tasks
        self._outbox = shared.outbox
        self._memory = shared.memory
        self._turn_taking = turn_taking
        # Whether the last task took so long that the I/O thread runs the loop by now.
        self._is_slow = True
        self._loader = SequenceLoader(Allowance(common.sequences, common.packages, self._local, pickle))
        self._welcome: Welcome | None = None
        self._compressor: Compressor | None = None
        # For the Sequence as it is in `_epoch`. Epochs are compared as objects: another session has its own.
        self._maker: BatchMaker | None = None
        self._epoch: Epoch | None = None

    def run(self) -> None:
        """Work until the queue is closed, then close the Sequence."""
        enter_worker(*self._worker)
        while (task := self._next_task()) is not None:
            if isinstance(task, Prepare):
                self._prepare(task)
            else:
                self._compute(task)
        self._maker = None
        self._loader.close()

    def _next_task(self) -> Prepare | Item | None:
        """Wait for the next task; None once the queue is closed."""
        tasks, turn_taking = self._tasks, self._turn_taking
        while (task := tasks.take()) is None and not tasks.closed:
            if turn_taking.has_ended or (self._is_slow and not turn_taking.is_free):
                tasks.wait()
            else:
                turn_taking.wait_for(tasks)
        return task

    def _prepare(self, task: Prepare) -> None:
        self._is_slow = True
        self._welcome = task.welcome
        wanted = task.welcome.options.get("compression")
        self._compressor = find_compressor(wanted) if wanted in CODECS else None
        self._memory.join(task.session, task.welcome.options.get("shared_memory"))
        try:
            self._load(task.session, task.epoch)
        except BaseException as error:
            self._report_failed(task, error)
        else:
            self._report_loaded(task)

    def _load(self, session: bytes, epoch: Epoch) -> None:
        if epoch is self._epoch:
            return
        assert self._welcome is not None, "an epoch is prepared before anything of it is computed"
        options = self._welcome.options
        if not self._local:
            # Sending a pickle is no risk to this side, so the trainer decides whether it takes them.
            self._trust = Trust.KEYED if options.get("allow_pickle") is True else Trust.REMOTE
        # Released before the loader makes another Sequence: two of them may not fit in memory.
        self._epoch = self._maker = None
        self._loader.load(session, epoch, self._welcome)
        items = self._loader.make_items(epoch, on_repeat=self._tasks.begin_again)
        self._maker = BatchMaker(items, self._trust)
        self._epoch = epoch

    def _report_loaded(self, task: Prepare) -> None:
        epoch, options = task.epoch, task.welcome.options
        try:
            length, digest = self._loader.length(), self._loader.digest()
        except BaseException as error:
            self._report_failed(task, error)
            return
        if self._allow_skew:
            own = (length, digest)
            # The worker's owner accepts the difference, so the trainer gets its expected values.
            length, digest = options.get("sequence_length", length), options.get("sequence_digest", digest)
            if own != (length, digest):
                logger.warning(
                    "the Sequence here (%d batches) is not the trainer's (%d), or its code differs; serving "
                    "nevertheless, since --allow-skew was given",
                    own[0],
                    length,
                )
        settings = self._loader.unlike_settings()
        loaded = Loaded(task.session, epoch.epoch, epoch.generation, length, digest, self._allow_skew, settings)
        self._outbox.put(loaded)

    def _report_failed(self, task: Prepare, error: BaseException) -> None:
        record = record_error(error, trust_local=self._local)
        self._outbox.put(LoadFailed(task.session, task.epoch.epoch, task.epoch.generation, record))

    def _compute(self, task: Item) -> None:
        session, epoch, lease, index = task
        started = time.monotonic()
        try:
            if epoch is not self._epoch:
                self._load(session, epoch)
            encoded = self._maker.make(index, self._memory.arena)  # type: ignore[union-attr]
            if self._compressor is not None:
                encoded = self._compressor.pack(encoded)
        except BaseException as error:
            record = record_error(error, trust_local=self._local)
            self._outbox.put(Failed(session, epoch.epoch, epoch.generation, lease, record))
            return
        ended = time.monotonic()
        self._tasks.running.note_item(ended - started)
        self._is_slow = ended - started >= PATIENCE_SECONDS
        finished = (session, epoch, lease, encoded, started, ended)
        followup = self._outbox.add(finished, encoded.sent_bytes, left=len(self._tasks))
        if followup is Followup.SEND:
            if self._tasks or not self._turn_taking.is_free:
                self._turn_taking.turn_once()
            # Otherwise this thread runs the next round at once, to wait for more tasks, and the batch leaves with it.
        elif followup is Followup.NEW_DEADLINE:
            self._turn_taking.look_again()


@cache
def find_compressor(name: str) -> Compressor | None:
    """The compressor for this codec, one for each process, since it learns from batches; None: not installed here."""
    try:
        return Compressor(find_codec(name))
    except ImportError as error:
        logger.warning("batches are sent as they are: %s", error)
        return None
