from __future__ import annotations

import pytest

from enqueuer.cli.demo import demo
from enqueuer.cli.option_names import in_option_names


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("bind must look like 'tcp://host:port'", "--bind must look like 'tcp://host:port'"),
        ("bind='tcp://0.0.0.0:0' can be reached", "--bind tcp://0.0.0.0:0 can be reached"),
        ("pass key_file='DIR/a.key' here", "pass --key-file DIR/a.key here"),
        ("or pass insecure=True if", "or pass --insecure if"),
        (
            "key_file is for remote workers and needs bind=… as well",
            "--key-file is for remote workers and needs --bind … as well",
        ),
        ("workers=2, but", "--workers 2, but"),
    ],
)
def test_an_argument_is_spelled_as_the_commands_option(text: str, wanted: str) -> None:
    assert in_option_names(text, demo) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "no worker can bind the port",
        "/data/key_file/x cannot be read",
        "'insecure=True'",
        "min_workers=3 is not an option of this command",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert in_option_names(text, demo) == text
