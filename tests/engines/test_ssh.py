"""`enqueuer launch ssh` with a real SSH server: two hosts in network namespaces, a key agent, and the real faults."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

from enqueuer import SequenceEnqueuer, SequenceSpec
from enqueuer.security.key_directory import KeyDirectory
from tests.integration.programs import Taken, Trainer, said_on_failure
from tests.support.leaks import alive, descendants
from tests.support.namespaces import TwoHosts, two_hosts
from tests.support.observed import own_directory
from tests.support.remote import REPOSITORY, environment
from tests.support.ssh_host import SshHost, command_of, skip_without_ssh
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.namespaces, pytest.mark.timeout(300)]

_LENGTH, _SIZE, _SEED = 50, 5000, 7


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    skip_without_ssh()
    yield from two_hosts(delay_ms=1)


@pytest.fixture
def server(hosts: TwoHosts, tmp_path: Path) -> Iterator[SshHost]:
    with SshHost(hosts, tmp_path / "ssh") as made:
        yield made


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyDirectory]:
    """Keys for the trainer, which the launcher finds in a directory of its own."""
    directory = KeyDirectory(tmp_path / "keys")
    directory.create()
    with own_directory(monkeypatch):
        yield directory


class Launch:
    """A running `enqueuer launch ssh` on the trainer's host, started when made."""

    def __init__(self, hosts: TwoHosts, server: SshHost, log: Path, *arguments: str, command: str = "") -> None:
        python = f"env PYTHONPATH={environment()['PYTHONPATH']} {sys.executable}"
        self.log = log
        self.started_at = time.monotonic()
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                [
                    *(*hosts.trainer, sys.executable, "-m", "enqueuer", "launch", "ssh", "-F", str(server.config)),
                    *("--directory", str(REPOSITORY), "--remote-command", command or f"{python} -m enqueuer"),
                    *arguments,
                    # The batches name their workers, so no two machines make the same ones.
                    *("--", "--allow", "tests", "--allow-skew"),
                ],
                cwd=REPOSITORY,
                env={**environment(), **server.variables},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    def clients(self) -> set[int]:
        """The pids of the SSH clients."""
        return descendants(self._process.pid)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, deadline: float = 60.0) -> int:
        return self._process.wait(deadline)

    def kill(self) -> None:
        """SIGKILL: the launcher cannot end anything any more."""
        self._process.kill()
        self._process.wait()

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def __enter__(self) -> Launch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number in (signal.SIGTERM, signal.SIGTERM):
            self.signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.wait(20)
        self.kill()


def train(hosts: TwoHosts, keys: KeyDirectory, log: Path, *arguments: str, seconds: float = 0.02) -> Trainer:
    """A trainer on loopback, whose numbers are drawn; it ends with the epoch in which `finish` is called."""
    sizes = ("--length", str(_LENGTH), "--size", str(_SIZE), "--seconds", str(seconds))
    key = ("--key-file", str(keys.key_file))
    address = "tcp://127.0.0.1:5555"
    return Trainer(
        hosts.trainer, address, "--sequence", "Drawn", "--seed", str(_SEED), *sizes, *key, *arguments, log=log
    )


def local_run(epochs: int) -> list[tuple[int, int, int]]:
    """Epoch, index and number of each batch, computed by a process of this host."""
    spec = SequenceSpec("tests.integration.sequences:Drawn", length=_LENGTH, size=_SIZE)
    with SequenceEnqueuer(spec, use_multiprocessing=True, seed=_SEED) as enqueuer:
        enqueuer.start(1)
        return [(epoch, int(index), int(array[0])) for epoch in range(epochs) for index, _, array in enqueuer.epoch()]


def assert_as_local(batches: list[Taken]) -> None:
    """Each position once, in order, with the numbers of a local run."""
    assert [(batch.epoch, batch.index, batch.value) for batch in batches] == local_run(len(batches) // _LENGTH)


def wait_for_another(trainer: Trainer, known: set[int]) -> float:
    """Wait for a batch of a process that is not known; returns its time."""

    def found() -> list[float]:
        return [batch.at for batch in list(trainer.batches) if batch.pid not in known]

    wait_until(found, 60.0, "a batch of a new worker")
    return found()[0]


def pids_of(batches: list[Taken]) -> set[int]:
    return {batch.pid for batch in batches}


def test_broken_connections_are_opened_again_and_ctrl_c_drains(
    hosts: TwoHosts, server: SshHost, keys: KeyDirectory, tmp_path: Path
) -> None:
    token = ("--token-file", str(keys.token_file("worker")))
    with train(hosts, keys, tmp_path / "trainer.log") as trainer, said_on_failure(trainer):
        wait_until(lambda: trainer.bound_at, what="the trainer")
        with Launch(hosts, server, tmp_path / "first.log", "far:2", *token) as launch, said_on_failure(launch):
            first = wait_for_another(trainer, set()) - launch.started_at
            text = keys.token_file("worker").read_text().strip()
            assert all(text not in command_of(pid) for pid in hosts.pids()), "the token is in no command line"
            gaps = []
            for victims in (launch.clients, server.sessions):
                old = server.started()
                killed_at = time.monotonic()
                for pid in victims():
                    os.kill(pid, signal.SIGKILL)
                gaps.append(wait_for_another(trainer, old | pids_of(trainer.batches)) - killed_at)
                wait_until(lambda old=old: not alive(old), 60.0, "the end of the workers that lost their way")
            clients = launch.clients()
            assert clients and server.started()
            launch.signal(signal.SIGINT)
            assert launch.wait() == 0, launch.output()
            wait_until(lambda: not server.started() and not alive(clients), 60.0, "the end of workers and clients")
        with Launch(hosts, server, tmp_path / "second.log", "far:2", *token) as launch, said_on_failure(launch):
            wait_for_another(trainer, pids_of(trainer.batches))
            trainer.finish(60)
            launch.signal(signal.SIGINT)
            assert launch.wait() == 0, launch.output()
        assert_as_local(trainer.batches)
    print(f"first batch after {first:.1f} s; recovery after a killed client {gaps[0]:.1f} s, server {gaps[1]:.1f} s")


def test_workers_end_when_the_launcher_is_killed(
    hosts: TwoHosts, server: SshHost, keys: KeyDirectory, tmp_path: Path
) -> None:
    token = ("--token-file", str(keys.token_file("worker")))
    with (
        train(hosts, keys, tmp_path / "trainer.log") as trainer,
        Launch(hosts, server, tmp_path / "launch.log", "far:1", *token) as launch,
        said_on_failure(trainer, launch),
    ):
        wait_for_another(trainer, set())
        clients = launch.clients()
        launch.kill()
        wait_until(lambda: not server.started() and not alive(clients), 60.0, "the end of workers and clients")


def test_a_fleet_outlives_a_cut_wire_and_its_trainer(
    hosts: TwoHosts, server: SshHost, keys: KeyDirectory, tmp_path: Path
) -> None:
    token = ("--token-file", str(keys.token_file("worker")))
    with Launch(hosts, server, tmp_path / "launch.log", "far:1", *token) as launch, said_on_failure(launch):
        wait_until(lambda: "no trainer of yours with bind=… runs" in launch.output(), 60.0, "the look for a trainer")
        with train(hosts, keys, tmp_path / "first.log") as trainer, said_on_failure(trainer):
            wait_for_another(trainer, set())
            old = server.started()
            hosts.cut()
            cut_at = time.monotonic()
            wait_until(lambda: not alive(old), 90.0, "the end of the workers that hear nothing")
            ended_after = time.monotonic() - cut_at
            hosts.mend()
            mended_at = time.monotonic()
            recovery = wait_for_another(trainer, old | pids_of(trainer.batches)) - mended_at
            trainer.finish(60)
            assert_as_local(trainer.batches)
        # Its second port is another one.
        with train(hosts, keys, tmp_path / "second.log") as trainer, said_on_failure(trainer):
            wait_for_another(trainer, set())
            trainer.finish(60)
            assert_as_local(trainer.batches)
        assert "far | the trainer has other ports now: connecting anew" in launch.output()
        # Without a trainer, each attempt fails in the client as well, several a second; only the worker tells of it.
        told = re.compile(r"the session has ended\n.*a port forwarding whose trainer does not run yet", re.DOTALL)
        wait_until(lambda: told.search(launch.output()), 60.0, "the worker's own line")
        assert "connect_to" not in launch.output()
        launch.signal(signal.SIGTERM)
        assert launch.wait() == 0, launch.output()
    print(f"workers ended {ended_after:.1f} s after the cut; recovery {recovery:.1f} s after its end")


def test_a_second_ctrl_c_ends_all_at_once(hosts: TwoHosts, server: SshHost, keys: KeyDirectory, tmp_path: Path) -> None:
    token = ("--token-file", str(keys.token_file("worker")))
    with (
        Launch(hosts, server, tmp_path / "launch.log", "far:1", *token) as launch,
        train(hosts, keys, tmp_path / "trainer.log", seconds=600.0) as trainer,
        said_on_failure(launch, trainer),
    ):
        # The launcher has waited for the trainer.
        wait_until(lambda: "the Sequence is ready" in launch.output(), 60.0, "a worker")
        launch.signal(signal.SIGINT)
        wait_until(lambda: "SIGTERM: draining" in launch.output(), 60.0, "the drain")
        launch.signal(signal.SIGINT)
        assert launch.wait() == 128 + signal.SIGINT
        wait_until(lambda: not server.started(), 60.0, "the end of the workers")


def test_each_mistake_of_a_set_up_has_an_error_with_its_cure(hosts: TwoHosts, server: SshHost, tmp_path: Path) -> None:
    addresses = ("--insecure", "--connect", "tcp://127.0.0.1:5555", "--data-connect", "tcp://127.0.0.1:5556")
    everything = ("unknown", "changed", "refused", "silent", *addresses)
    with Launch(hosts, server, tmp_path / "log", *everything) as launch, said_on_failure(launch):
        for host, words in (
            ("unknown", "given up: its host key is not known here: run `ssh unknown` once and compare the fingerprint"),
            ("changed", "given up: its host key has changed: another machine may pose as this host."),
            ("refused", "given up: it refuses this user's keys: `ssh refused true` must work without a question"),
            ("silent", "it cannot be reached, for the reason above; trying again in 0.5 s"),
        ):
            wait_until(lambda line=f"{host:7} | {words}": line in launch.output(), 60.0, words)
        assert "silent  | ssh: connect to host 192.0.2.2 port 23: Connection refused" in launch.output()
        launch.signal(signal.SIGINT)
        assert launch.wait() == 1, "three hosts were given up"
    (tmp_path / "other").write_text("echo enqueuer 0.1.0")
    with Launch(hosts, server, tmp_path / "log", "far:1", *addresses, command=f"sh {tmp_path}/other") as launch:
        assert launch.wait() == 0
    assert "far | enqueuer 0.1.0 runs there, " in launch.output(), launch.output()
    (tmp_path / "older").write_text("echo 'Error: No such option: --stdin-timeout' >&2; exit 2")
    for command, words in (
        ("no/enqueuer", "given up: there is no enqueuer on it (tried: no/enqueuer): install version"),
        (f"env PYTHONPATH= {sys.executable} -I -S -m enqueuer", "given up: there is no enqueuer on it"),
        (f"sh {tmp_path}/older", "given up: enqueuer is older there than here"),
    ):
        with Launch(hosts, server, tmp_path / "log", "far:1", *addresses, command=command) as launch:
            assert launch.wait() == 1
        assert words in launch.output(), launch.output()
