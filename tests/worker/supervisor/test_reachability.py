"""One look at an address: each obstacle on the way to a trainer has a text of its own. Real sockets."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import zmq

from enqueuer.security.curve import secure_server
from enqueuer.security.keys import new_secret_key
from enqueuer.transport.sockets import configure, new_context
from enqueuer_worker.connection import Refusal
from enqueuer_worker.supervisor import reachability
from enqueuer_worker.supervisor.reachability import Finding, _unreachable, look
from enqueuer_worker.trainer_addresses import Target, split_address
from tests.support.remote import free_address


def seen(address: str, refusal: Refusal | None = None, *, has_token: bool = False) -> Finding:
    found = look(address, refusal, has_token=has_token)
    assert found is not None
    return found


@contextlib.contextmanager
def zmq_socket(kind: int, *, has_keys: bool = False) -> Iterator[str]:
    """The address of a bound socket."""
    context = new_context()
    bound = configure(context.socket(kind))
    if has_keys:
        secure_server(bound, new_secret_key())
    bound.bind("tcp://127.0.0.1:*")
    yield bound.getsockopt_string(zmq.LAST_ENDPOINT)
    bound.close()
    context.term()


@contextlib.contextmanager
def program(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a program that does this with its one connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            connection, _ = server.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_a_name_that_is_not_known_is_told_with_the_name() -> None:
    found = seen("tcp://no-such-machine.invalid:5555")
    assert found.summary.startswith("the name 'no-such-machine.invalid' of the trainer is not known here")
    assert found.level == logging.WARNING and not found.final


def test_a_port_at_which_nothing_listens_is_no_cause_for_alarm() -> None:
    address = free_address()
    found = seen(address)
    assert found.summary == f"no trainer listens at {address.removeprefix('tcp://')}: the connection is refused"
    assert found.level == logging.INFO


def test_a_resolved_name_is_told_with_its_address() -> None:
    port = free_address().rpartition(":")[2]
    assert f"localhost:{port} (127.0.0.1)" in seen(f"tcp://localhost:{port}").summary


def test_of_a_name_with_several_addresses_the_gravest_reason_counts_unless_a_trainer_is_at_one_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def name_of(*addresses: str) -> str:
        targets = [Target(socket.AF_INET, split_address(each), "") for each in addresses]
        monkeypatch.setattr(reachability, "find_targets", lambda *_: targets)
        return "tcp://trainer:5555"

    nothing = free_address()
    with program(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")) as other:
        assert "is no trainer: it does not speak ZeroMQ" in seen(name_of(nothing, other, nothing)).summary
    with zmq_socket(zmq.ROUTER) as trainer:
        assert look(name_of(nothing, trainer), None, has_token=False) is None


def test_an_interface_without_an_address_that_leads_there_is_told() -> None:
    found = look("tcp://127.0.0.1:5555", None, has_token=False, interface="no-such-iface")
    assert found is not None
    assert "the network interface no-such-iface has no address" in found.summary and "--interface" in found.advice


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError("timed out"), "nothing comes back from there:5 (192.0.2.1)"),
        (OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)), "nothing comes back from"),
        (OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH)), "there is no route to"),
        (OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH)), "there is no route to"),
        (OSError(errno.EACCES, os.strerror(errno.EACCES)), "this machine cannot connect to"),
    ],
)
def test_each_failure_of_a_connection_attempt_has_its_text(error: OSError, words: str) -> None:
    assert words in _unreachable(error, "there:5 (192.0.2.1)", "192.0.2.1", 5).summary


def test_a_program_that_does_not_speak_zeromq_is_no_trainer() -> None:
    with program(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")) as address:
        assert "is no trainer: it does not speak ZeroMQ" in seen(address).summary


def test_a_program_that_says_nothing_is_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "says nothing" in seen(f"tcp://127.0.0.1:{server.getsockname()[1]}").summary


def test_a_program_that_hangs_up_is_told_apart() -> None:
    with program(lambda connection: None) as address:
        assert "closes the connection at once" in seen(address).summary


@pytest.mark.parametrize(
    ("has_keys", "has_token", "refusal", "words"),
    [
        (True, True, Refusal.UNCLEAR, "has other keys: this token was made with another coordinator.key"),
        (True, False, Refusal.UNCLEAR, "lets in only workers with a key"),
        (False, True, Refusal.UNCLEAR, "has no keys, so it is not the one that this token is for"),
        (False, False, Refusal.SOCKET, "is not the one for workers to connect to"),
    ],
)
def test_a_trainer_whose_keys_or_port_do_not_fit_is_told_with_the_remedy(
    has_keys: bool, has_token: bool, refusal: Refusal, words: str
) -> None:
    with zmq_socket(zmq.ROUTER, has_keys=has_keys) as address:
        found = seen(address, refusal, has_token=has_token)
    assert words in found.summary and found.advice
    assert found.final is (refusal is Refusal.UNCLEAR)


@pytest.mark.parametrize("has_keys", [True, False])
def test_a_trainer_that_fits_gives_no_reason(has_keys: bool) -> None:
    with zmq_socket(zmq.ROUTER, has_keys=has_keys) as address:
        assert look(address, None, has_token=has_keys) is None
