"""Key files and tokens as data: reading them, and errors about bad ones. No error text contains a secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enqueuer.errors import ConfigurationError
from enqueuer.security.keys import (
    CoordinatorKey,
    ObserverToken,
    WorkerToken,
    fingerprint,
    new_secret_key,
    parse_coordinator_key,
    parse_observer_token,
    parse_token,
    public_key_of,
    read_coordinator_key,
    read_observer_token,
    read_token,
)

SERVER, SECRET = new_secret_key(), new_secret_key()
TOKEN = WorkerToken(public_key_of(SERVER), SECRET)
KEY = CoordinatorKey(SERVER, {"worker": TOKEN.public_key, "gpu-box_2.b": public_key_of(new_secret_key())})
OBSERVER_TOKEN = ObserverToken(public_key_of(SERVER), SECRET)
# A pod's user, and the group of its volumes.
POD, FS_GROUP = 12345, 23456


def refuses(parse: Callable[[str, str], object], text: str) -> str:
    """The error's text, after checking that nothing of the input is in it or in the traceback."""
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "the file")
    shown = "".join(traceback.format_exception(caught.value))
    for part in (*text.split(), *filter(None, text.split('"'))):
        assert len(part) < 30 or part not in shown
    return str(caught.value)


def test_written_keys_and_tokens_are_read_back() -> None:
    assert parse_token(TOKEN.to_text() + "\n", "") == TOKEN
    assert parse_coordinator_key(KEY.to_text(), "") == KEY


def test_a_token_has_no_special_characters() -> None:
    assert TOKEN.to_text().replace("-", "").replace("_", "").replace(".", "").isalnum()


def test_a_repr_contains_no_secret() -> None:
    for text in (repr(KEY), repr(TOKEN), str(KEY), f"{TOKEN}"):
        for secret in (SERVER, SECRET):
            assert repr(secret) not in text and secret.hex() not in text
    assert fingerprint(TOKEN.public_key) == TOKEN.public_key.hex()[:8]


def test_each_mistyped_character_and_each_lost_end_of_a_token_is_refused() -> None:
    text = TOKEN.to_text()
    for at in range(len(text)):
        other = "A" if text[at] != "A" else "B"
        refuses(parse_token, text[:at] + other + text[at + 1 :])
        refuses(parse_token, text[:at])
    refuses(parse_token, text + "A")
    refuses(parse_token, text[:40] + "é" + text[41:])
    assert "with a mistake in it" in refuses(parse_token, text[:-1])


@given(st.text())
def test_any_other_text_raises_configuration_error(text: str) -> None:
    for parse in (parse_token, parse_coordinator_key):
        with pytest.raises(ConfigurationError):
            parse(text, "the file")
    with pytest.raises(ConfigurationError):
        parse_token(TOKEN.to_text()[:18] + text, "the file")


def test_a_secret_given_as_a_path_is_refused_without_repeating_it() -> None:
    for read in (read_token, read_coordinator_key):
        for text in (TOKEN.to_text(), KEY.to_text(), str(Path("keys", TOKEN.to_text()))):
            assert "itself" in refuses(lambda path, _: read(path), text)  # noqa: B023 - called at once


def test_a_token_given_as_a_key_and_a_key_given_as_a_token_are_recognized() -> None:
    assert "worker's token" in refuses(parse_coordinator_key, TOKEN.to_text())
    assert "never leave the trainer's machine" in refuses(parse_token, KEY.to_text())


def test_an_observers_token_is_read_back_and_is_no_workers_token() -> None:
    text = OBSERVER_TOKEN.to_text()
    assert parse_observer_token(text + "\n", "") == OBSERVER_TOKEN != TOKEN
    assert "a worker needs one of its own" in refuses(parse_token, text)
    assert "--add-observer" in refuses(parse_observer_token, TOKEN.to_text())
    assert "observer's token" in refuses(parse_coordinator_key, text)
    assert "itself" in refuses(lambda path, _: read_observer_token(path), text)


def test_the_prefix_of_a_token_cannot_be_changed_to_another_kinds() -> None:
    forged = TOKEN.to_text().replace("-worker-", "-observer-")
    assert "with a mistake in it" in refuses(parse_observer_token, forged)


def test_observers_are_written_and_read_and_a_key_file_of_before_has_none() -> None:
    key = CoordinatorKey(SERVER, {"worker": TOKEN.public_key}, {"grafana": public_key_of(new_secret_key())})
    assert parse_coordinator_key(key.to_text(), "") == key
    document = json.loads(KEY.to_text())
    del document["observers"]
    assert parse_coordinator_key(json.dumps(document), "").observers == {}


def test_a_path_in_the_token_variable_is_recognized() -> None:
    with pytest.raises(ConfigurationError, match="ENQUEUER_TOKEN_FILE"):
        parse_token("/run/secrets/worker.token", "ENQUEUER_TOKEN")


def test_another_version_is_refused_by_name() -> None:
    assert "another version" in refuses(parse_token, TOKEN.to_text().replace("-1.", "-2.", 1))
    assert "another version" in refuses(parse_coordinator_key, KEY.to_text().replace('"version": 1', '"version": 2'))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (SERVER.hex(), new_secret_key().hex()),
        (SERVER.hex(), SERVER.hex()[:-2]),
        (f'"{SERVER.hex()}"', "[1]"),
        (TOKEN.public_key.hex(), "zz"),
        ('"gpu-box_2.b"', '"a/../b"'),
        ('"gpu-box_2.b"', '""'),
        ('"workers": {', '"workers": 3, "x": {'),
    ],
    # Keys are random: as names of tests they would differ in each process that runs some of the tests.
    ids=["another-key", "short-key", "no-text", "no-hex", "bad-name", "no-name", "no-workers"],
)
def test_a_damaged_key_file_is_refused(old: str, new: str) -> None:
    text = KEY.to_text()
    assert old in text
    assert "damaged" in refuses(parse_coordinator_key, text.replace(old, new))


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "[" * 100_000, KEY.to_text()[:100], "ssh-rsa AAAA"], ids=range(7)
)
def test_another_file_is_refused_with_the_command_that_makes_a_key(text: str) -> None:
    assert "enqueuer keygen" in refuses(parse_coordinator_key, text)


def test_a_file_open_to_others_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "worker.token"
    path.write_text(TOKEN.to_text())
    for mode in (0o640, 0o604, 0o620, 0o602, 0o644, 0o666):
        path.chmod(mode)
        with pytest.raises(ConfigurationError, match=f"mode {mode:04o}.*chmod 600 {path}"):
            read_token(path)
    for mode in (0o600, 0o400):
        path.chmod(mode)
        assert read_token(path) == TOKEN


def test_another_file_that_is_open_to_others_is_no_file_to_make_private(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text("import enqueuer\n")
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="is not a worker's token"):
        read_token(path)
    with pytest.raises(ConfigurationError, match="is not a coordinator's key"):
        read_coordinator_key(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(
    ("user", "groups", "owner", "mode", "outcome"),
    [
        (POD, [FS_GROUP], (0, FS_GROUP), 0o440, "read"),
        (POD, [FS_GROUP], (0, FS_GROUP), 0o644, "needs defaultMode: 0440"),
        (POD, [FS_GROUP], (0, FS_GROUP), 0o460, "as root, chmod 640"),
        (POD, [], (0, 0), 0o444, "as root, chmod 640"),
        (POD, [], (0, 0), 0o400, "needs the pod's securityContext.fsGroup"),
        (POD, [FS_GROUP], (POD, FS_GROUP), 0o440, "chmod 600"),
        (POD, [FS_GROUP], (POD + 1, FS_GROUP), 0o440, "belongs to another user"),
        (0, [FS_GROUP], (0, FS_GROUP), 0o440, "read"),
        (0, [], (0, FS_GROUP), 0o440, "chmod 600"),
        (0, [0], (0, 0), 0o440, "chmod 600"),
        (0, [], (POD, POD), 0o600, "belongs to another user"),
    ],
)
def test_a_secret_that_kubernetes_mounts_is_read_if_its_group_is_the_processs_own(
    tmp_path: Path, user: int, groups: list[int], owner: tuple[int, int], mode: int, outcome: str
) -> None:
    """The volume is as kubelet writes it, with links that it can replace at once; the process is of that user."""
    (tmp_path / "..1").mkdir()
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "worker.token").symlink_to("..data/worker.token")
    written = tmp_path / "..1" / "worker.token"
    written.write_text(TOKEN.to_text())
    written.chmod(mode)
    os.chown(written, *owner)
    for directory in (tmp_path, tmp_path / "..1"):
        directory.chmod(0o755)
    # The directory first: those above it are closed to that user.
    program = (
        "import os, sys; from enqueuer.security.keys import read_token; directory, user, groups = sys.argv[1:];"
        "os.chdir(directory); os.setgroups([int(group) for group in groups.split()]);"
        "os.setgid(int(user)); os.setuid(int(user)); read_token('worker.token'); print('read')"
    )
    arguments = [str(tmp_path), str(user), " ".join(map(str, groups))]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert outcome in (done.stdout + done.stderr).strip().splitlines()[-1]


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"nothing: No such file .*; `enqueuer keygen DIR` makes DIR/worker.token"
    ):
        read_token(tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match=f"is a directory: give a file, such as {tmp_path}/coordinator.key"):
        read_coordinator_key(tmp_path)
    with pytest.raises(ConfigurationError, match=f"is a directory: give a file, such as {tmp_path}/worker.token"):
        read_token(tmp_path)
    large = tmp_path / "large"
    large.write_bytes(b"{" * 2_000_000)
    large.chmod(0o600)
    with pytest.raises(ConfigurationError, match="larger than"):
        read_coordinator_key(large)
