from __future__ import annotations

import pytest

from enqueuer.engines.ssh.hosts import Host, parse_hosts
from enqueuer.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("gpu-1", Host("gpu-1", "7")),
        ("gpu-1:4", Host("gpu-1", "4")),
        ("ann@gpu-1.example:auto", Host("ann@gpu-1.example", "auto")),
        ("10.0.0.2:16", Host("10.0.0.2", "16")),
        ("[fe80::1%eth0]:2", Host("fe80::1%eth0", "2")),
        ("ann@[::1]", Host("ann@::1", "7")),
    ],
)
def test_a_host_may_have_a_user_and_a_number_of_processes(text: str, host: Host) -> None:
    assert parse_hosts([text], "7") == [host]


@pytest.mark.parametrize(
    "text", ["", "gpu:0", "gpu:many", "gpu:", "::1", "a b", "-oProxyCommand=x", "x@-y", "-x@y", "[gpu]", "a@b@c", "a/b"]
)
def test_a_malformed_host_is_an_error_that_shows_the_form(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"HOST:PROCESSES \(a number or 'auto'\)"):
        parse_hosts([text], "auto")


def test_a_host_twice_and_an_impossible_number_are_errors() -> None:
    with pytest.raises(ConfigurationError, match="gpu is given twice"):
        parse_hosts(["gpu:2", "other", "gpu:3"], "auto")
    with pytest.raises(ConfigurationError, match="'auto' or a number of at least 1, not '0'"):
        parse_hosts(["gpu"], "0")
