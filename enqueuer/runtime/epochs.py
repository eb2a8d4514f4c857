"""The life of an epoch: opened, computed ahead, checked, and ended with the user's hook.

    open(N) ──► all leased: exhausted(N) ──► prefetch: open(N + 1), gated
            ──► last batch taken: taken(N) ──► on_epoch_end ──► open(N + 1), gated, unless it is open or must wait
                         first batch awaited: wanted(N + 1) ──► confirmed, opened anew, or opened now
            ──► its rest dropped: ended_early(N) ──► on_epoch_end, and no more until the next one is awaited

A gated epoch is computed, but nothing of it is delivered before `wanted` has compared the Sequence with the state
generation that the epoch was opened under. If the trainer has changed it meanwhile, the epoch opens anew under the next
generation, and the core gives up the batches computed under the old one. So every epoch has the Sequence as it is when
its first batch is asked for. That is the only pickling of an epoch: an epoch that opens ahead is presumed to have the
generation before it, and where that cannot be (a hook ran) it opens in `wanted`, as it does where no change can be seen
(in an object that threads share, and in memory that processes share).

`open`, `exhausted`, `taken`, `ended_early` and `wanted` run in the hook thread, since they call the user's object.
`instance` runs in the I/O thread: it reads one entry of a dict, set before the core hears of the epoch and deleted
after its end. `close` runs in the thread that stops the session.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enqueuer.compute.digest import sequence_digest
from enqueuer.compute.drawn_epochs import draw_order, renew_order
from enqueuer.compute.library_settings import read_thread_settings
from enqueuer.compute.sequence_checks import is_shuffled, own_on_epoch_end
from enqueuer.compute.settings_check import read_settings
from enqueuer.compute.spec import SequenceSpec
from enqueuer.core.events import EpochConfirmed, EpochOpened, Event, Setting
from enqueuer.runtime.bookmark import Bookmark
from enqueuer.runtime.sent_orders import SentOrders
from enqueuer.runtime.sent_states import Placement, SentStates


@dataclass(frozen=True, slots=True)
class _Opened:
    """An open epoch, and its Sequence: live, or built from ``spec``."""

    event: EpochOpened
    spec: SequenceSpec | None
    instance: Any
    # Of its drawn order; '' without one.
    order_digest: str


class EpochKeeper:
    """Opens and ends the epochs of one session, and writes their plans into its ``bookmark``.

    ``post`` hands events to the core; ``set_length`` tells the ready queue an epoch's length; ``directory`` is private,
    for systems where shared memory needs a file.
    """

    def __init__(
        self,
        bookmark: Bookmark,
        placement: Placement,
        directory: Path,
        post: Callable[[Event], None],
        set_length: Callable[[int, int], None],
    ) -> None:
        self._bookmark = bookmark
        self._own = bookmark.own
        self._options = bookmark.options
        self._placement = placement
        self._seed = bookmark.seed
        self._post = post
        self._set_length = set_length
        # The length of the latest opened epoch.
        self._length = 0
        self._states = SentStates(bookmark.own, placement, directory, bookmark.options.worker_init)
        # The settings of the user's thread, which calls `start`.
        self._thread_settings = read_thread_settings() if placement.processes else {}
        self._orders = SentOrders(directory, processes=placement.processes, remote=placement.remote)
        self._opened: dict[int, _Opened] = {}
        self._exhausted = -1
        # The latest ended epoch: if it ended early, grants of it may still be on their way to local threads.
        self._ended: _Opened | None = None
        # An epoch: the trainer awaits its first batch, and the hook of the previous epoch has yet to run.
        self._wanted = -1

    # ------------------------------------------------------------ events of an epoch's life

    def open(self, epoch: int, *, gated: bool = False) -> None:
        """Read the Sequence as it is now, and have the epoch computed.

        Raises ValueError for an empty Sequence, ConfigurationError if it cannot be sent, StateError if the resumed
        epoch had another length, and the errors of the user's ``__len__`` and of pickling.
        """
        own = self._own
        own.read()
        length = own.length(epoch)
        if length < 1:
            raise ValueError(f"the Sequence is empty: len() is {length}, so there is no batch to compute")
        plan = self._bookmark.make_plan(epoch, length)
        if plan.left_count < 1:
            raise ValueError(
                f"the Sequence has {length} batches for {plan.shard[1]} ranks, so shard_remainder='drop' leaves none; "
                "use shard_remainder='repeat' or fewer ranks"
            )
        can_check = gated and self._can_check
        state = self._states.newest
        # Another length is a change for certain, and workers refuse an epoch of another length than their instance.
        if state is None or not (can_check and length == self._length and self._states.is_presumed_unchanged()):
            state = self._states.make()
        self._length = length
        drawn = draw_order(own.instance, epoch)
        order_digest = "" if drawn is None else drawn.digest
        ahead = self._opened.get(epoch)
        if ahead is not None and order_digest != ahead.order_digest and state.generation == ahead.event.generation:
            state = self._states.renumber()
        order = plan.order(self._seed, epoch, shuffle=is_shuffled(own.instance, self._options.shuffle))
        digest = b""
        if own.spec is not None and self._placement.remote:
            digest = sequence_digest(own.spec.target, own.spec.kwargs)
        wire, remote_wire, remote_refusal = state.wire, state.remote_wire, state.remote_refusal
        if drawn is not None:
            is_spec = own.spec is not None
            wire, remote_wire, refusal = self._orders.add_to(wire, remote_wire, epoch, drawn, is_spec=is_spec)
            remote_refusal = remote_refusal or refusal
        opened = EpochOpened(
            epoch,
            state.generation,
            self._seed,
            order,
            length,
            digest,
            wire,
            state.sequence,
            self._worker_options(length, digest),
            can_check,
            remote_wire,
            remote_refusal,
            self._read_settings(),
        )
        self._opened[epoch] = _Opened(opened, own.spec, own.instance, order_digest)
        own.enter(epoch, own.spec, own.instance)
        self._set_length(epoch, plan.left_count)
        self._post(opened)

    def exhausted(self, epoch: int) -> None:
        """Every position of the epoch is leased: compute the next epoch ahead, if it may be prefetched."""
        self._exhausted = max(epoch, self._exhausted)
        self._prefetch(epoch + 1)

    def taken(self, epoch: int) -> None:
        """The epoch's last batch was taken: run ``on_epoch_end``, and open the next epoch."""
        self._end(epoch)
        self._follow(epoch)

    def ended_early(self, epoch: int) -> None:
        """The trainer has dropped the rest of the epoch: run ``on_epoch_end``. The next epoch opens once it is wanted:
        the trainer may want it to go on in the middle.
        """
        self._end(epoch)
        following = self._opened.get(epoch + 1)
        if following is not None and not following.event.gated:
            self._follow(epoch)
        if self._wanted == epoch + 1:
            self.wanted(epoch + 1)

    def _end(self, epoch: int) -> None:
        self._ended = self._opened[epoch]
        self._own.end_epoch(self._seed, epoch, self._ended.instance)
        del self._opened[epoch]
        self._orders.forget(epoch)

    def _follow(self, epoch: int) -> None:
        following = self._opened.get(epoch + 1)
        if following is None:
            self._own.read()
            if self._can_check and self._states.is_cheap_to_check():
                self.open(epoch + 1, gated=True)
            else:
                self._expect(epoch + 1)
        elif not following.event.gated:
            self._own.enter(epoch + 1, following.spec, following.instance)
            self._prefetch(epoch + 2)

    def _expect(self, epoch: int) -> None:
        """Note the length of an epoch before it opens: states saved until then contain the length."""
        # The epoch's opening raises the error again, unless the trainer has mended the cause.
        with contextlib.suppress(Exception):
            length = self._own.length(epoch)
            if length > 0:
                self._bookmark.make_plan(epoch, length)
                self._own.enter(epoch, self._own.spec, self._own.instance)

    def wanted(self, epoch: int) -> None:
        """The trainer waits for the epoch's first batch: confirm a gated epoch, or open it now or anew."""
        if epoch - 1 in self._opened:
            self._wanted = epoch  # its hook has failed, or is still to run: `ended_early` comes back to this
            return
        opened = self._opened.get(epoch)
        if self._bookmark.goes_on(epoch):
            self.open(epoch)
            return
        if opened is not None and not opened.event.gated:
            return
        instance = self._own.read()
        renew_order(instance, epoch)
        if opened is None:
            self.open(epoch)
            return
        state = self._states.make()
        drawn = draw_order(instance, epoch)
        digest = "" if drawn is None else drawn.digest
        is_same = digest == opened.order_digest and self._own.length(epoch) == opened.event.length
        if is_same and state.generation == opened.event.generation:
            self._own.enter(epoch, self._own.spec, self._own.instance)
            self._post(EpochConfirmed(epoch))
            self._prefetch(epoch + 1)
        else:
            self.open(epoch)

    def instance(self, epoch: int) -> Any:
        """The Sequence of this open epoch, for the trainer's own threads."""
        opened = self._opened.get(epoch, self._ended)
        assert opened is not None
        return opened.instance

    def close(self) -> None:
        """Release the shared segments. The session's threads must have ended."""
        self._states.close()
        self._orders.close()

    # ------------------------------------------------------------ further facts for workers

    def _read_settings(self) -> dict[str, Setting]:
        if not self._placement.processes:
            return {}
        settings = read_settings(self._own.instance, self._thread_settings)
        return {name: Setting(*setting) for name, setting in settings.items()}

    def _worker_options(self, length: int, digest: bytes) -> dict[str, Any]:
        init = self._options.worker_init
        return {
            "sequence_length": length,
            "sequence_digest": digest,
            "max_batches": self._options.max_batches_per_worker,
            "worker_init": init if isinstance(init, str) else None,
            # Pickles inside of batches are accepted.
            "allow_pickle": self._options.allow_pickle,
        }

    # ------------------------------------------------------------ prefetch

    @property
    def _can_check(self) -> bool:
        """Whether a change by the trainer can be seen before the epoch is delivered: threads share its object, and
        processes may share memory with it.
        """
        newest = self._states.newest
        return not self._placement.threads and (newest is None or not newest.shares_memory)

    def _prefetch(self, epoch: int) -> None:
        """Open the epoch if it may be computed ahead: one epoch at most, or an unbounded queue would never be full."""
        if (
            self._exhausted == epoch - 1 == min(self._opened, default=None)
            and epoch not in self._opened
            and self._may_prefetch()
        ):
            # The end of the previous epoch is the place of an error: opening raises it again there.
            with contextlib.suppress(Exception):
                self.open(epoch, gated=True)

    def _may_prefetch(self) -> bool:
        if self._options.prefetch_epochs is not None:
            return self._options.prefetch_epochs
        return self._can_check and own_on_epoch_end(self._own.instance) is None
