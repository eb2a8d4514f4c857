"""The guide's remote quick start, to the letter: two hosts, a directory on each, the commands as they are printed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.test_snippets import write_command
from tests.support.namespaces import TwoHosts, two_hosts
from tests.support.remote import environment
from tests.support.snippets import PAGES, Snippet, snippets
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.namespaces, pytest.mark.timeout(120)]

_SHELL = ["bash", "-euo", "pipefail", "-c"]


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    yield from two_hosts(delay_ms=1)


class Reader:
    """Does on two hosts what the page says. The commands `enqueuer`, `python` and `scp` are this repository's."""

    def __init__(self, hosts: TwoHosts, directory: Path) -> None:
        self.here, self.there = directory / "trainer", directory / "worker-host"
        commands = directory / "bin"
        for made in (self.here, self.there, commands):
            made.mkdir()
        write_command(commands / "enqueuer", f'exec {sys.executable} -m enqueuer "$@"')
        write_command(commands / "python", f'exec {sys.executable} "$@"')
        write_command(commands / "scp", f'test "${{!#}}" = worker-host: && cp "${{@:1:$#-1}}" {self.there}')
        commands.joinpath("scp").write_text(commands.joinpath("scp").read_text().replace("/bin/sh", "/bin/bash"))
        self._hosts = hosts
        self._environment = {
            **{name: value for name, value in environment().items() if not name.startswith("ENQUEUER_")},
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        }
        self.log = directory / "worker.log"
        self.worker: subprocess.Popen[bytes] | None = None

    def do(self, block: Snippet) -> str:
        """Do what a block says; returns what its commands print."""
        if block.file is not None:
            (self.here / block.file).write_text(block.source)
            return ""
        if block.source.startswith("enqueuer worker "):
            self._start_worker(block.source)
            return ""
        done = subprocess.run(
            [*self._hosts.trainer, *_SHELL, block.source],
            cwd=self.here,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def _start_worker(self, command: str) -> None:
        with self.log.open("wb") as sink:
            self.worker = subprocess.Popen(
                [*self._hosts.worker, *_SHELL, f"exec {command}"],
                cwd=self.there,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )
        # A reader looks at it before the training starts.
        wait_until(lambda: "no trainer listens at trainer:5555" in self.log.read_text(), 30.0, self.log.read_text())

    def stop_worker(self) -> int:
        assert self.worker is not None
        self.worker.send_signal(signal.SIGINT)
        try:
            return self.worker.wait(30.0)
        finally:
            self.worker.kill()
            self.worker.wait()


def test_the_remote_quick_start_shows_batches_of_the_other_machine(hosts: TwoHosts, tmp_path: Path) -> None:
    hosts.name_trainer("trainer")
    reader = Reader(hosts, tmp_path)
    printed = ""
    try:
        for block in snippets(PAGES / "start" / "remote.md"):
            if block.reason is None and (block.file is not None or block.language == "sh"):
                printed += reader.do(block)
    finally:
        exit_code = reader.stop_worker()
    assert exit_code == 0, reader.log.read_text()
    computed = re.findall(r"^after epoch 2: (\S+)-\d+ on \S+ has computed (\d+) batches$", printed, re.MULTILINE)
    by_name: dict[str, int] = {}
    for name, count in computed:
        by_name[name] = by_name.get(name, 0) + int(count)
    assert set(by_name) == {"local", os.uname().nodename} and min(by_name.values()) > 0, printed
    assert sum(by_name.values()) >= 300, "a late batch may be computed twice"
