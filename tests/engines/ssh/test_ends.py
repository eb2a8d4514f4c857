"""The texts are those of OpenSSH 9.2 and of a shell; tests/engines/test_ssh.py meets them for real."""

from __future__ import annotations

import pytest

from enqueuer.engines.ssh.ends import End, explain_end


def explain(code: int, text: str = "") -> End:
    return explain_end(code, text.splitlines(), "ann@gpu", command="venv/bin/enqueuer", version="0.2.0")


@pytest.mark.parametrize(
    ("code", "text", "words"),
    [
        (255, "Host key verification failed.", "run `ssh ann@gpu` once and compare the fingerprint"),
        (
            255,
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "another machine may pose as this host. If the change is right, remove the old key: ssh-keygen -R gpu",
        ),
        (255, "ann@gpu: Permission denied (publickey).", "refuses this user's keys"),
        (255, "command-line: line 0: Bad configuration option: colour", "ssh does not take its options"),
        (127, "bash: line 1: venv/bin/enqueuer: No such file or directory", "install version 0.2.0 there"),
        (1, "/usr/bin/python3: No module named enqueuer", "there is no enqueuer on it (tried: venv/bin/enqueuer)"),
        (2, "Error: No such option: --stdin-timeout", "older there than here (0.2.0)"),
        (2, "Error: allow must be a package's dotted name", "for the reason above"),
    ],
)
def test_what_only_the_user_can_mend_is_final(code: int, text: str, words: str) -> None:
    end = explain(code, text)
    assert end.is_final and words in end.reason


@pytest.mark.parametrize(
    ("code", "text", "words"),
    [
        (255, "ssh: connect to host gpu port 22: Connection refused", "cannot be reached"),
        (255, "ssh: Could not resolve hostname gpu: Name or service not known", "cannot be reached"),
        (255, "Error: remote port forwarding failed for listen port 22222", "AllowTcpForwarding"),
        (255, "Connection to gpu closed by remote host.", "the connection has ended"),
        (137, "", "exit code 137"),
        (-9, "", "signal 9"),
        (1, "", "exit code 1"),
    ],
)
def test_what_may_pass_is_tried_again(code: int, text: str, words: str) -> None:
    end = explain(code, text)
    assert not end.is_final and words in end.reason
