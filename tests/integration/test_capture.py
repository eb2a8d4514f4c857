"""A capture of the wire: with keys no part of a batch can be read; without keys it can, which checks the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from enqueuer import SequenceEnqueuer, SequenceSpec
from enqueuer.security.key_directory import KeyDirectory
from tests.integration.sequences import Recognizable
from tests.support.capture import Capture, skip_unless_possible
from tests.support.remote import RemoteWorker, free_address

LENGTH = 20
SIZE = 5_000


@pytest.mark.parametrize("has_keys", [True, False])
def test_batches_can_be_read_on_the_wire_only_without_keys(tmp_path: Path, has_keys: bool) -> None:
    skip_unless_possible()
    directory = KeyDirectory(tmp_path)
    directory.create()
    # On one host large arrays would not go over the wire at all.
    options: dict[str, Any] = {"shared_memory": False, **({"key_file": directory.key_file} if has_keys else {})}
    arguments = ("--token-file", str(directory.token_file("worker"))) if has_keys else ()
    control, data = free_address(), free_address()
    name = f"{Recognizable.__module__}:{Recognizable.__qualname__}"
    spec = SequenceSpec(name, length=LENGTH, size=SIZE)
    with (
        Capture(tmp_path / "packets", control, data) as capture,
        RemoteWorker(control, tmp_path / "log", 1, arguments),
        SequenceEnqueuer(spec, bind=control, data_bind=data, **options) as enqueuer,
    ):
        enqueuer.start(0)
        batches = [batch for _, _, batch in enqueuer.epoch()]
    assert len(batches) == LENGTH and all(bytes(batch[:9]) == b"PLAINTEXT" for batch in batches)
    assert capture.payload_bytes() >= LENGTH * SIZE * len(Recognizable.TEXT)
    # The first is a batch's, the second the name of the Sequence, on the other channel.
    for text in (Recognizable.TEXT, Recognizable.__qualname__):
        assert (capture.packets_with(text) == 0) is has_keys
