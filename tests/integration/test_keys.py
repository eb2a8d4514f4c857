"""Keys with the real worker program: accepted workers, rejected workers with reasons, and secrets kept secret."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enqueuer import NoWorkersError, SequenceEnqueuer, SequenceError, SequenceSpec
from enqueuer.security.key_directory import KeyDirectory
from enqueuer.security.keys import read_coordinator_key, read_token
from tests.support.leaks import descendants
from tests.support.remote import RemoteWorker, free_address
from tests.support.waiting import wait_until

LENGTH = 40

Start = Callable[..., RemoteWorker]


def spec(name: str = "Stamped", **arguments: Any) -> SequenceSpec:
    return SequenceSpec(f"tests.integration.sequences:{name}", length=LENGTH, **arguments)


def epoch(enqueuer: SequenceEnqueuer) -> list[Any]:
    """The batches of one whole epoch, in order."""
    batches = list(enqueuer.epoch())
    assert [batch[0] for batch in batches] == list(range(LENGTH))
    return batches


@pytest.fixture
def keys(tmp_path: Path) -> KeyDirectory:
    made = KeyDirectory(tmp_path / "keys")
    made.create()
    return made


@pytest.fixture
def address() -> str:
    return free_address()


@pytest.fixture
def start(tmp_path: Path, address: str, keys: KeyDirectory) -> Iterator[Start]:
    """Starts a worker with the first token, or with ``token``, or with none for None."""
    started: list[RemoteWorker] = []

    def start_one(*arguments: str, token: str | None = "worker", processes: int = 1, **variables: str) -> RemoteWorker:
        log = tmp_path / f"log-{len(started)}"
        if token is not None:
            arguments = ("--token-file", str(keys.token_file(token)), *arguments)
        # The batches name their workers, so no two machines make the same ones.
        started.append(RemoteWorker(address, log, processes, ("--allow-skew", *arguments), variables))
        return started[-1]

    yield start_one
    for worker in started:
        worker.stop(timeout=5.0)


def is_said(worker: RemoteWorker, words: str) -> None:
    wait_until(lambda: words in worker.output(), 20.0, f"that the worker says {words!r}")


# ---------------------------------------------------------------- accepted and rejected workers


def test_a_trainer_that_starts_again_with_its_key_finds_its_workers(
    start: Start, keys: KeyDirectory, address: str
) -> None:
    start(processes=2)
    pids = []
    for _ in range(2):
        with SequenceEnqueuer(spec(), bind=address, key_file=keys.key_file) as enqueuer:
            enqueuer.start(0)
            pids.append({batch[1] for batch in epoch(enqueuer)})
    assert pids[0] & pids[1]


def test_what_a_workers_sequence_logs_warns_and_prints_reaches_the_trainer(
    start: Start, keys: KeyDirectory, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "enqueuer")
    start()
    with SequenceEnqueuer(spec("Chatty"), bind=address, key_file=keys.key_file) as enqueuer:
        enqueuer.start(0)
        epoch(enqueuer)
        for words in ("opened shelf 0", "shelf 0 is dusty", "read shelf 0"):
            wait_until(lambda words=words: words in _remote_lines(caplog), 60.0, f"{words!r}")  # type: ignore[misc]
    assert "-0 on " in _remote_lines(caplog), "the lines name their worker"
    assert keys.token_file("worker").read_text().strip() not in caplog.text


def _remote_lines(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in list(caplog.records) if record.name == "enqueuer.remote")


@pytest.mark.proves("a worker has no key, a revoked one, or another trainer's")
@pytest.mark.parametrize("token", ["no token", "another coordinator's token", "a token that was revoked"])
def test_a_rejected_worker_logs_the_reason_and_so_does_the_trainer(
    start: Start, keys: KeyDirectory, address: str, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    key_file = keys.key_file
    if token == "no token":
        worker, here, there = start(token=None), "it has no key", "lets in only workers with a key; give --token-file"
    elif token == "a token that was revoked":
        keys.add_worker("other")
        public = read_token(keys.token_file("other")).public_key.hex()[:8]
        copy = keys.path / "copy.token"
        copy.write_bytes(keys.token_file("other").read_bytes())
        copy.chmod(0o600)
        keys.revoke_worker("other")
        worker, here, there = start(token="copy"), f"its key {public} is not in {key_file}", "does not know this worker"
    else:
        other = KeyDirectory(keys.path / "other")
        other.create()
        worker, here, there = start(), "another coordinator.key", "made with another coordinator.key"
        key_file = other.key_file
    with SequenceEnqueuer(spec(), bind=address, key_file=key_file, no_worker_timeout=60) as enqueuer:
        enqueuer.start(0)
        is_said(worker, there)
        wait_until(lambda: here in caplog.text, 30.0, f"that the trainer says {here!r}")
        assert enqueuer.stats().workers_count == 0
    assert worker.alive(), "it goes on trying: keys come and go"


def test_a_worker_with_a_token_serves_no_trainer_without_the_key(start: Start, address: str) -> None:
    worker = start()
    with SequenceEnqueuer(spec(), bind=address, no_worker_timeout=2) as enqueuer:
        enqueuer.start(0)
        is_said(worker, "has no keys, so it is not the one that this token is for")
        with pytest.raises(NoWorkersError):
            next(enqueuer.get())


def test_with_once_an_unknown_key_ends_the_worker(start: Start, keys: KeyDirectory, address: str) -> None:
    keys.add_worker("other")
    copy = keys.path / "copy.token"
    copy.write_bytes(keys.token_file("other").read_bytes())
    copy.chmod(0o600)
    keys.revoke_worker("other")
    with SequenceEnqueuer(spec(), bind=address, key_file=keys.key_file) as enqueuer:
        enqueuer.start(0)
        worker = start("--once", token="copy")
        wait_until(lambda: not worker.alive(), 20.0, "the end of the worker")
    assert worker.stop() == 1


@pytest.mark.proves("a worker's key is revoked while it serves")
def test_keys_are_rolled_in_the_middle_of_an_epoch(
    start: Start, keys: KeyDirectory, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    old = start()
    sequence = SequenceSpec("tests.integration.sequences:Stamped", length=300, seconds=0.02)
    with SequenceEnqueuer(sequence, bind=address, key_file=keys.key_file) as enqueuer:
        enqueuer.start(0)
        batches = enqueuer.epoch()
        taken = [next(batches) for _ in range(20)]
        old_pid = taken[0][1]
        keys.add_worker("new")
        start(token="new")
        wait_until(lambda: enqueuer.stats().workers_count == 2, 30.0, "the new worker")
        keys.revoke_worker("worker")
        is_said(old, "its key was revoked")
        wait_until(lambda: enqueuer.stats().workers_count == 1, 20.0, "that the old one is gone")
        taken += [next(batches) for _ in range(30)]
        rest = list(batches)
        assert {batch[1] for batch in rest} and old_pid not in {batch[1] for batch in rest}
        assert [batch[0] for batch in taken + rest] == list(range(300))
        is_said(old, "does not know this worker's key")


# ---------------------------------------------------------------- secrets


def secrets_of(keys: KeyDirectory) -> list[bytes]:
    key, token = read_coordinator_key(keys.key_file), read_token(keys.token_file("worker"))
    text = token.to_text()
    return [key.secret_key.hex().encode(), token.secret_key.hex().encode(), text.encode(), text[60:].encode()]


def test_no_secret_is_in_logs_command_lines_or_the_environment_of_user_code(
    start: Start, keys: KeyDirectory, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = read_token(keys.token_file("worker")).to_text()
    worker = start("--log-level", "debug", token=None, ENQUEUER_TOKEN=token)
    with SequenceEnqueuer(spec("Surroundings"), bind=address, key_file=keys.key_file) as enqueuer:
        enqueuer.start(0)
        seen = {name: value for batch in epoch(enqueuer) for name, value in batch[2].items()}
        assert "PATH" in seen and "ENQUEUER_TOKEN" not in seen
        children = descendants(worker.pid)
        titles = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (worker.pid, *children)]
        environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in children]
        shown = [repr(enqueuer), repr(enqueuer._options), repr(vars(enqueuer._session))]
    worker.stop()
    places = [*titles, *environments, *(text.encode() for text in (*shown, caplog.text, worker.output()))]
    assert len(environments) == 1 and all(places)
    for place in places:
        for secret in secrets_of(keys):
            assert secret not in place


@pytest.mark.parametrize("problem", ["readable by others", "a mistake", "the coordinator's key", "not there"])
def test_a_wrong_token_is_refused_before_anything_is_connected(start: Start, keys: KeyDirectory, problem: str) -> None:
    path = keys.token_file("worker")
    words = {
        "readable by others": f"chmod 600 {path}",
        "a mistake": "a mistake in it",
        "the coordinator's key": "never leave the trainer's machine",
        "not there": "No such file",
    }[problem]
    text = path.read_text()
    if problem == "readable by others":
        path.chmod(0o644)
    elif problem == "not there":
        path.unlink()
    else:
        path.write_text(text[:50] + "AA" + text[52:] if problem == "a mistake" else keys.key_file.read_text())
    worker = start()
    wait_until(lambda: not worker.alive(), what="the end of the worker")
    assert worker.stop() == 2
    assert words in worker.output() and worker.output().count("\n") == 1
    for secret in secrets_of_text(text):
        assert secret not in worker.output()


def secrets_of_text(text: str) -> list[str]:
    return [text.strip(), text.strip()[60:90]]


# ---------------------------------------------------------------- trust


class Live:
    """A class that no module has under its name, so it travels as a pickle."""

    def __init__(self) -> None:
        self.table = np.arange(100_000)

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> tuple[int, int, int]:
        import os

        self.table[0] += 1
        return index, os.getpid(), int(self.table[index + 1])


def test_a_live_object_is_computed_by_remote_workers_that_allow_pickles(
    start: Start, keys: KeyDirectory, address: str
) -> None:
    start("--allow-pickle")
    with SequenceEnqueuer(Live(), bind=address, key_file=keys.key_file, no_worker_timeout=30) as enqueuer:
        enqueuer.start(0)
        for _ in range(2):
            assert [batch[2] for batch in epoch(enqueuer)] == list(range(1, LENGTH + 1))
        assert enqueuer.stats().workers_count == 1


def test_a_live_object_is_refused_by_a_worker_that_allows_no_pickles(
    start: Start, keys: KeyDirectory, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = start()
    with SequenceEnqueuer(Live(), bind=address, key_file=keys.key_file) as enqueuer:
        enqueuer.start(0)
        is_said(worker, "start it with --allow-pickle")
        wait_until(lambda: "--allow-pickle" in caplog.text, 10.0, "that the trainer says why")


@pytest.mark.parametrize("is_allowed", [True, False])
def test_pickled_objects_in_batches_are_accepted_only_with_allow_pickle(
    start: Start, keys: KeyDirectory, address: str, is_allowed: bool
) -> None:
    start()
    options = {"bind": address, "key_file": keys.key_file, "allow_pickle": is_allowed}
    with SequenceEnqueuer(spec("Odd"), **options) as enqueuer:
        enqueuer.start(0)
        if is_allowed:
            assert [batch[2] for batch in epoch(enqueuer)] == [{index, -1} for index in range(LENGTH)]
        else:
            with pytest.raises(SequenceError, match=r"batch\[2\] is a builtins\.set.*allow_pickle=True"):
                next(enqueuer.get())


@pytest.mark.proves("a worker wants more memory than its owner gave it")
def test_a_worker_has_no_more_memory_than_its_owner_gave_it(start: Start, keys: KeyDirectory, address: str) -> None:
    start("--max-memory", "600M")
    with SequenceEnqueuer(spec("Hungry", size=800 * 1024 * 1024), bind=address, key_file=keys.key_file) as enqueuer:
        enqueuer.start(0)
        batches = enqueuer.get()
        assert next(batches)[0] == 0
        with pytest.raises(MemoryError, match="Unable to allocate 800") as caught:
            next(batches)
        assert isinstance(caught.value.__cause__, SequenceError)
