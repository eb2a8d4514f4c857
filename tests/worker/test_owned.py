"""The worker program that ends with its owner, commanded over stdin as an actor of Ray does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from enqueuer import SequenceEnqueuer, SequenceSpec
from enqueuer.fresh_interpreter import interpreter_command
from enqueuer.security.key_directory import KeyDirectory
from tests.support.leaks import alive, descendants
from tests.support.remote import REPOSITORY
from tests.support.waiting import wait_until


def start(address: str, token: str, log: Path) -> subprocess.Popen[bytes]:
    arguments = {"connect": address, "allow": "tests"}
    config = {"arguments": arguments, "token": token, "sys_path": [str(REPOSITORY), *sys.path]}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            interpreter_command("enqueuer_worker.owned"), stdin=subprocess.PIPE, stdout=sink, stderr=sink, bufsize=0
        )
    assert process.stdin is not None
    process.stdin.write(json.dumps(config).encode() + b"\n")
    return process


def test_it_ends_at_once_with_its_owner_drains_on_sigterm_and_shows_its_token_to_nobody(tmp_path: Path) -> None:
    KeyDirectory(tmp_path / "keys").create()
    token = (tmp_path / "keys" / "worker.token").read_text().strip()
    spec = SequenceSpec("tests.engines.ray.sequences:Noise", length=40)
    programs: list[subprocess.Popen[bytes]] = []
    with SequenceEnqueuer(
        spec, bind="tcp://127.0.0.1:*", key_file=str(tmp_path / "keys" / "coordinator.key"), ordered=True
    ) as enq:
        enq.start(workers=0, max_queue_size=2)
        assert enq.endpoint is not None
        try:
            programs += [start(enq.endpoint, token, tmp_path / f"log{number}") for number in range(2)]
            enq.wait_for_workers(2, timeout=60)
            batches = enq.epoch()
            taken = [next(batches) for _ in range(5)]
            for program in programs:
                for name in ("environ", "cmdline"):
                    assert token.encode() not in Path(f"/proc/{program.pid}/{name}").read_bytes()
            orphaned, kept = programs
            processes = {orphaned.pid, *descendants(orphaned.pid)}
            assert len(processes) == 2
            assert orphaned.stdin is not None
            orphaned.stdin.close()
            orphaned.wait(60)
            wait_until(lambda: not alive(processes), 60, "the end of all of its processes")
            taken += batches
            assert len(taken) == 40
            kept.terminate()
            assert kept.wait(60) == 0
        finally:
            for program in programs:
                program.kill()
                program.wait()
                assert program.stdin is not None
                program.stdin.close()


def test_it_says_what_is_missing_where_its_owner_ends_too_soon() -> None:
    done = subprocess.run(
        interpreter_command("enqueuer_worker.owned"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "closed stdin" in done.stderr
